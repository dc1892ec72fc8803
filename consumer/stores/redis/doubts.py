"""What reconcile asks: `ports.operator.Doubts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.entry import Taken
from consumer.ports.operator import Resolution
from consumer.stores.redis.buckets import HOME, bucket_of, split
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.moving import move, moving_of
from consumer.stores.redis.names import Names
from consumer.stores.redis.queues import soonest
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import clean, landing_args, micros, outgoing_args, raw, taken_of

__all__ = ["RedisDoubts"]

_ASK = Script("entry", "queues", "ask")
_RESOLVE = Script("entry", "outgoing", "landing", "complete", "resolve")


class RedisDoubts:
    """`ports.operator.Doubts`.

    Args:
        calls: how buckets are asked.
        app: this handle's; landings of a resolution are its entries.
        names: to announce.
    """

    def __init__(self, calls: Calls, app: str, names: Names) -> None:
        self._calls = calls
        self._app = app
        self._names = names

    async def ask(self, handlers: Sequence[str], limit: int, lease: float, tries: int) -> list[Taken]:
        """Take doubts to ask about; see `ports.operator.Doubts.ask`."""
        if not handlers or limit < 1:
            return []
        if self._calls.buckets == 1:
            places: dict[int, Any] = {HOME: None}
        else:
            places = await soonest(self._calls, "q:", self._app, handlers, limit=limit, tries=tries)
        args = [
            (bucket, (self._app, list(handlers), limit, micros(lease), tries, identities))
            for bucket, identities in places.items()
        ]
        if not args:
            return []
        replies = await self._calls.run_all(_ASK, args, some=True)
        return [
            taken_of(each, bucket)
            for bucket, reply in zip(places, replies, strict=True)
            for each in reply or ()
        ]

    async def resolve(self, resolution: Resolution) -> bool:
        """End a doubt; see `ports.operator.Doubts.resolve`."""
        bucket = bucket_of(resolution.identity, self._calls.buckets)
        await self._names.announce({(landing.tenant, landing.handler) for landing in resolution.landings})
        done, owed = await self._calls.run(
            _RESOLVE,
            bucket,
            raw(resolution.identity),
            split(resolution.token, bucket),
            int(resolution.to),
            clean(resolution.reason),
            None if resolution.result is None else raw(resolution.result),
            outgoing_args(resolution.outgoing),
            [
                landing_args(landing, self._app, bucket, self._calls.buckets)
                for landing in resolution.landings
            ],
        )
        await move(self._calls, moving_of(bucket, owed))
        return bool(done)
