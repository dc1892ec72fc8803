"""Landing and what is due: `ports.arrivals.Arrivals`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.entry import Landed, Landing, Taken
from consumer.stores.redis.buckets import HOME, by_bucket
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.history import History
from consumer.stores.redis.moving import LAND, Moving, move, moving_of
from consumer.stores.redis.names import Names
from consumer.stores.redis.queues import soonest
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import landing_args, taken_of

__all__ = ["RedisArrivals"]

_DUE = Script("history", "entry", "queues", "due")
_LANDED = {1: Landed.NEW, 2: Landed.DUPLICATE, 3: Landed.CONFLICT}


class RedisArrivals:
    """`ports.arrivals.Arrivals`.

    Args:
        calls: how buckets are asked.
        app: this handle's.
        history: of the buckets.
        names: to announce.
    """

    def __init__(self, calls: Calls, app: str, history: History, names: Names) -> None:
        self._calls = calls
        self._app = app
        self._history = history
        self._names = names

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably; see `ports.arrivals.Arrivals.land`. On a cluster it is one commit a bucket."""
        if not landings:
            return []
        await self._names.announce({(landing.tenant, landing.handler) for landing in landings})
        buckets = self._calls.buckets
        places = by_bucket((landing.identity for landing in landings), buckets)
        args = [
            (bucket, (self._app, [landing_args(landings[i], self._app, bucket, buckets) for i in where]))
            for bucket, where in places.items()
        ]
        landed = [Landed.NEW] * len(landings)
        moving: list[Moving] = []
        replies = await self._calls.run_all(LAND, args)
        for (bucket, where), (words, owed) in zip(places.items(), replies, strict=True):
            for i, word in zip(where, words, strict=True):
                landed[i] = _LANDED[word]
            moving += moving_of(bucket, owed)
        if moving:
            await move(self._calls, moving)
        return landed

    async def due(self, worker: int, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Claim what is due; see `ports.arrivals.Arrivals.due`."""
        if not handlers or limit < 1:
            return []
        if self._calls.buckets == 1:
            places: dict[int, Any] = {HOME: None}
        else:
            places = await soonest(self._calls, "d:", self._app, handlers, limit=limit)
        if not places:
            return []
        replies = await self._history.claiming(places, lambda: self._take(worker, handlers, limit, places))
        taken: list[Taken] = []
        for bucket, reply in zip(places, replies, strict=True):
            if reply is not None:  # else that part of the cluster is away, and what it holds stays due
                self._history.counted(bucket, worker, reply[0])
                taken += [taken_of(each, bucket) for each in reply[1]]
        return taken

    async def in_lanes(self, handlers: Sequence[str]) -> dict[str, int]:  # noqa: ARG002
        """This store has no lanes."""
        return {}

    async def _take(
        self, worker: int, handlers: Sequence[str], limit: int, places: dict[int, Any]
    ) -> list[Any]:
        args = [
            (
                bucket,
                (
                    self._app,
                    str(worker),
                    self._history.seen(bucket, worker),
                    list(handlers),
                    limit,
                    identities,
                ),
            )
            for bucket, identities in places.items()
        ]
        return await self._calls.run_all(_DUE, args, some=True)
