"""The mark that makes a Redis a store, and what an operator says about a history that broke."""

from __future__ import annotations

import secrets

from consumer.errors import SchemaMismatch
from consumer.stores.redis.buckets import meta_key, prefixes
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import clean

__all__ = ["VERSION", "accept_history", "broken", "check", "migrate"]

VERSION = 1
"""Of the keys and their fields; a script that changes their meaning raises it."""

_MIGRATE = Script("migrate")
_ACCEPT = Script("accept")


async def check(calls: Calls) -> None:
    """Refuse a Redis that holds no store, or one of another version.

    Raises:
        SchemaMismatch: the text says what mends it.
        StoreUnavailable: nobody answers.
    """
    shown = calls.address.shown
    for found, version, buckets in await _marks(calls):
        if not found:
            raise SchemaMismatch(
                f"store={shown!r}: this Redis is empty; run `consumer migrate` once. If it held a store before, it has"
                " lost it, and every key with it"
            )
        if (int(version), int(buckets)) != (VERSION, calls.buckets):
            raise SchemaMismatch(
                f"store={shown!r}: its keys are of version {int(version)} in {int(buckets)} buckets, this one works with"
                f" version {VERSION} in {calls.buckets}; use the version that made them, and drain it"
            )


async def broken(calls: Calls) -> list[str]:
    """Return why claims are refused; empty where they are not.

    Raises:
        StoreUnavailable: nobody answers.
    """
    replies = await calls.commands([("HGET", key, "broken") for key in _keys(calls)])
    return sorted({reply.decode() for reply in replies if reply})


async def migrate(calls: Calls, *, dry_run: bool) -> list[str]:
    """Make the store's mark in every bucket that lacks it; return the step done (or to do).

    Raises:
        StoreUnavailable: nobody answers.
    """
    args = (secrets.token_hex(8), VERSION, calls.buckets, not dry_run)
    done = sum(await calls.run_all(_MIGRATE, [(bucket, args) for bucket in range(calls.buckets)]))
    if not done:
        return []
    return [f"redis {VERSION}: the store's mark in {done} bucket{'' if done == 1 else 's'}"]


async def accept_history(calls: Calls, reason: str) -> list[str]:
    """Let claims go on in a store that may have lost some; return what was wrong (nothing: it was only written down).

    Args:
        calls: how buckets are asked.
        reason: why, kept in the store.

    Raises:
        StoreUnavailable: nobody answers; some buckets may be accepted, and the same call may be repeated.
    """
    args = (secrets.token_hex(8), VERSION, calls.buckets, clean(reason))
    replies = await calls.run_all(_ACCEPT, [(bucket, args) for bucket in range(calls.buckets)])
    return sorted({reply.decode() for reply in replies if reply})


async def _marks(calls: Calls) -> list[list[bytes]]:
    return await calls.commands([("HMGET", key, "epoch", "version", "buckets") for key in _keys(calls)])


def _keys(calls: Calls) -> list[str]:
    return [meta_key(prefix) for prefix in prefixes(calls.buckets)]
