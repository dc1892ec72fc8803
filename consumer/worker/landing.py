"""What waits to be landed: deliveries of ordered handlers, in the order in which they came.

A delivery is landed only if all that came before it in its assignment were. So a rebalance that begins drops nothing here:
what was polled just before may be handed over yet, and would be landed ahead of what was dropped. Only what is not held
any more is dropped; then everything that follows it in its assignment is not held either, and its next owner begins anew.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from consumer.errors import StoreUnavailable
from consumer.path.in_order import land_in_lanes
from consumer.path.parts import Parts, Work
from consumer.worker.inhand import InHand

__all__ = ["LIMIT", "Lander"]

_log = logging.getLogger("consumer.landing")

BATCH = 500

LIMIT = 20_000
"""Unfinished entries of one handler that may lie in lanes. Beyond it nothing more of its is landed, so its deliveries stay
in hand, not acknowledged, and the source pauses their partitions."""

LOOK_EVERY = 0.25
"""Seconds between looks at how many there are, once there are too many."""


class Lander:
    """Lands deliveries that have a lane.

    Args:
        parts: what the path works with.
        in_hand: told of every ending.
        permitted: whether anything may be taken now.
        landed: called when entries may have become due.
        limit: see `LIMIT`.
    """

    def __init__(
        self,
        parts: Parts,
        in_hand: InHand,
        *,
        permitted: Callable[[], bool],
        landed: Callable[[], None],
        limit: int = LIMIT,
    ) -> None:
        self._parts = parts
        self._in_hand = in_hand
        self._permitted = permitted
        self._landed = landed
        self._limit = limit
        self._queues: dict[str, deque[Work]] = {}
        self._room: dict[str, int] = {}
        self._look_at: dict[str, float] = {}

    def put(self, work: Work) -> None:
        """Queue a delivery behind those of its handler."""
        self._queues.setdefault(work.handler.name, deque()).append(work)

    def waiting(self) -> list[Work]:
        """What waits to be landed now."""
        return [work for queue in self._queues.values() for work in queue]

    async def land(self) -> None:
        """Land what there is room for; where the store does not answer, everything stays and is landed again in order."""
        for queue in self._queues.values():
            while queue and not self._in_hand.held(queue[0]):
                queue.popleft()
        if not self._permitted():
            return
        try:
            for name, queue in self._queues.items():
                while queue and await self._has_room(name):
                    await self._batch(name, queue)
        except StoreUnavailable as fault:
            _log.warning("messages cannot be landed yet, so they are not acknowledged: %s", fault)

    async def _batch(self, name: str, queue: deque[Work]) -> None:
        count = min(len(queue), BATCH, self._room[name])
        # Asked about again: while the store counted, a rebalance may have come to its end.
        works = [work for work in (queue.popleft() for _ in range(count)) if self._in_hand.held(work)]
        try:
            endings = await land_in_lanes(self._parts, works)
        except BaseException:
            queue.extendleft(reversed(works))
            raise
        self._room[name] -= len(works)
        for work, ending in zip(works, endings, strict=True):
            self._in_hand.ended(work, ending)
        self._landed()

    async def _has_room(self, name: str) -> bool:
        """Whether more of this handler may be landed; counted by the store whenever the last count is used up."""
        if self._room.get(name, 0) > 0:
            return True
        now = self._parts.clock.monotonic()
        if now < self._look_at.get(name, now):
            return False
        counted = await self._parts.arrivals.in_lanes([name])
        # A quarter of the room: some processes that look at once exceed the limit by little.
        self._room[name] = (self._limit - counted.get(name, 0) + 3) // 4
        if self._room[name] <= 0:
            self._look_at[name] = now + LOOK_EVERY
            return False
        return True
