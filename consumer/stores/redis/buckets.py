"""Buckets: hash slots that hold whole entries, and what can be told from a token or a place in the outbox.

A script on a cluster sees one hash slot, so an entry, the queues that it stands in, its worker's claims and its outgoing
messages lie in one. A single server has one bucket: there every batch is one script.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

__all__ = [
    "HOME",
    "MOST",
    "bucket_of",
    "bucket_of_number",
    "by_bucket",
    "join",
    "meta_key",
    "prefixes",
    "script_keys",
    "split",
]

MOST = 64
"""Numbers of one bucket are this far apart, so that those of two buckets are never equal. Frozen: it is in every token."""

HOME = 0
"""The bucket of what the whole store has once: workers, names, owners of shards."""


def bucket_of(identity: bytes, buckets: int) -> int:
    """Return the bucket of an entry."""
    return identity[0] % buckets


def by_bucket(identities: Iterable[bytes], buckets: int) -> dict[int, list[int]]:
    """Return the positions of entries in their sequence, by bucket."""
    found: dict[int, list[int]] = {}
    for position, identity in enumerate(identities):
        found.setdefault(identity[0] % buckets, []).append(position)
    return found


def join(drawn: int, bucket: int) -> int:
    """Return the token (or place in the outbox) that a bucket's script drew; 0 is none."""
    return drawn * MOST + bucket if drawn else 0


def split(number: int, bucket: int) -> int:
    """Return what the bucket's script drew for this token; -1: it cannot have been this bucket."""
    if number == 0:
        return 0
    return number // MOST if number > 0 and number % MOST == bucket else -1


def bucket_of_number(number: int) -> int:
    """Return the bucket whose script drew this number."""
    return number % MOST


def meta_key(prefix: str) -> str:
    """Return the key of what a bucket knows of itself, by which its scripts know all others."""
    return prefix + "meta"


def script_keys(prefix: str) -> tuple[str, str]:
    """Return the keys that every script is called with: `meta`, and one that never exists.

    While a slot moves from one server to another, its keys are on both, and a script that did not find an entry where it
    looks would start it a second time. Where several keys are named and one is missing, neither server runs the script
    (`TRYAGAIN`): until the slot has moved, its bucket is not available.
    """
    return meta_key(prefix), prefix + "never"


@cache
def prefixes(buckets: int) -> tuple[str, ...]:
    """Return what the keys of each bucket begin with; on a cluster, equal shares of the slots get equal numbers of buckets.

    Args:
        buckets: how many there are; fixed when the store is made.
    """
    found: dict[int, str] = {}
    for number in itertools.count():
        slot = key_slot(f"c{number}".encode())
        found.setdefault(slot * buckets // REDIS_CLUSTER_HASH_SLOTS, f"consumer:{{c{number}}}:")
        if len(found) == buckets:
            break
    return tuple(found[bucket] for bucket in range(buckets))
