"""Landings that a commit in one bucket owes to another one (on a cluster): brought there at least once.

They lie in the bucket of the entry that made them, written in its commit. Whoever made them moves them at once; what a crash
leaves behind the next `due` of any process moves. A landing that is moved twice finds its identity and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from consumer.entry import Landing
from consumer.errors import StoreUnavailable
from consumer.stores.redis.buckets import bucket_of
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import MICRO, landing_args

__all__ = ["LAND", "Moving", "move", "moving_of"]

LAND = Script("entry", "landing", "land")

Moving = tuple[int, bytes, bytes]
"""(bucket, its place there, the landing encoded)"""

_log = logging.getLogger("consumer.redis")
_decode = msgspec.msgpack.Decoder(tuple[str, Landing]).decode


def moving_of(bucket: int, replies: Iterable[Sequence[bytes]]) -> list[Moving]:
    """Return what a script of `bucket` says that it owes to others."""
    return [(bucket, seq, body) for seq, body in replies]


async def move(calls: Calls, moving: Sequence[Moving], *, now: int | None = None) -> None:
    """Bring landings to their buckets, then forget them. A fault is logged: they stay where they are, and move later.

    Args:
        calls: how the store is asked.
        moving: what to move.
        now: microseconds by the clock of the server where they wait; `None`: they were written a moment ago.
    """
    try:
        while moving:
            moving = await _move(calls, moving, now)
    except StoreUnavailable as fault:
        _log.warning("%d landings wait in the bucket of the entry that made them: %s", len(moving), fault)


async def _move(calls: Calls, moving: Sequence[Moving], now: int | None) -> list[Moving]:
    batches: dict[tuple[int, str], list[tuple[object, ...]]] = {}
    for _, seq, body in moving:
        app, landing = _decode(body)
        if now is not None and landing.delay:
            # What is drawn in a bucket is not below its clock, so the place tells when it was written.
            left = max(0.0, landing.delay - max(0, now - int(seq)) / MICRO)
            landing = msgspec.structs.replace(landing, delay=left)
        bucket = bucket_of(landing.identity, calls.buckets)
        args = landing_args(landing, app, bucket, calls.buckets)
        batches.setdefault((bucket, app), []).append(args)
    replies = await calls.run_all(LAND, [(bucket, (app, batch)) for (bucket, app), batch in batches.items()])
    await calls.commands([("HDEL", calls.key(bucket, "v"), seq) for bucket, seq, _ in moving])
    # A landing that met another payload may itself owe a dead letter to a third bucket.
    return [
        each
        for (bucket, _), (_, owed) in zip(batches, replies, strict=True)
        for each in moving_of(bucket, owed)
    ]
