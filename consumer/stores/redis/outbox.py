"""Outgoing messages on their way to a sink: `ports.outbox.Outbox`. What is not sent is there; there is no cursor."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.ports.outbox import Pending
from consumer.stores.redis.buckets import HOME, bucket_of_number, split
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import SHARDS, clean, pending_of

__all__ = ["RedisOutbox", "places_of"]

_SHARDS = Script("signs", "shards")
_TAKE = Script("lanes", "take")
_SENT = Script("lanes", "sent")
_PARK = Script("lanes", "park")


class RedisOutbox:
    """`ports.outbox.Outbox`. On a cluster each bucket has its own: no order between messages of two entries.

    Args:
        calls: how buckets are asked.
        app: this handle's.
    """

    def __init__(self, calls: Calls, app: str) -> None:
        self._calls = calls
        self._app = app

    async def take(self, worker: int, limit: int) -> list[Pending]:
        """The oldest unsent messages of the worker's shards; see `ports.outbox.Outbox.take`."""
        mine = await self._calls.run(_SHARDS, HOME, self._app, str(worker), SHARDS)
        if not mine or limit < 1:
            return []
        args = (self._app, mine, limit)
        buckets = range(self._calls.buckets)
        replies = await self._calls.run_all(_TAKE, [(bucket, args) for bucket in buckets], some=True)
        found = [
            pending_of(each, bucket)
            for bucket, reply in zip(buckets, replies, strict=True)
            for each in reply or ()
        ]
        return sorted(found, key=lambda pending: pending.seq)[:limit]

    async def sent(self, seqs: Sequence[int]) -> None:
        """Forget these; see `ports.outbox.Outbox.sent`."""
        places = places_of(seqs, self._calls.buckets)
        if places:
            await self._calls.run_all(_SENT, [(bucket, (drawn,)) for bucket, drawn in places.items()])

    async def park(self, parked: Sequence[tuple[int, str]]) -> None:
        """Set messages aside; see `ports.outbox.Outbox.park`."""
        reasons = {str(split(seq, bucket_of_number(seq))): reason for seq, reason in parked}
        places = places_of([seq for seq, _ in parked], self._calls.buckets)
        if places:
            await self._calls.run_all(
                _PARK,
                [
                    (bucket, ([(drawn, clean(reasons[drawn])) for drawn in all_drawn],))
                    for bucket, all_drawn in places.items()
                ],
            )


def places_of(seqs: Sequence[int], buckets: int) -> dict[int, list[str]]:
    """Return what each bucket drew for these; numbers that no bucket of this store can have drawn are left out."""
    places: dict[int, list[str]] = {}
    for seq in dict.fromkeys(seqs):
        bucket = bucket_of_number(seq)
        if bucket < buckets:
            places.setdefault(bucket, []).append(str(split(seq, bucket)))
    return places
