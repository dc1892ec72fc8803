"""Transactional handlers: lanes of deliveries, one group and one connection each at a time.

Deliveries of one ordering key go to one lane and start in order. A lane takes what waits for one handler, as many as its
group size allows; the size grows while groups succeed and is halved where they do not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from consumer.declare.handlers import Handler
from consumer.errors import StoreUnavailable
from consumer.path.alone import count_abandoned
from consumer.path.endings import running_elsewhere
from consumer.path.one_commit import run_due, run_due_alone
from consumer.path.parts import Ending, Parts, Work
from consumer.path.pipeline import run_transactional
from consumer.worker.caution import Caution
from consumer.worker.inhand import InHand
from consumer.worker.watch import Abandoned, watched

__all__ = ["Lanes", "order_of"]

FIRST_SIZE = 50
LARGEST_SIZE = 500
PAUSE = 0.5
"""Seconds that a lane waits after the store did not answer."""


class _Lane:
    """The deliveries that wait for one connection, per handler, and the group size that each handler has earned."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.queues: dict[str, deque[Work]] = {}
        self.sizes: dict[str, int] = {}
        self.wake = asyncio.Event()
        self.due = True

    def next_handler(self) -> deque[Work] | None:
        """Return the next non-empty queue, in rotation."""
        for name in list(self.queues):
            queue = self.queues.pop(name)
            self.queues[name] = queue
            if queue:
                return queue
        return None


def order_of(work: Work) -> bytes | str:
    """Return what keeps deliveries in order: the record key, the ordering key, else nothing but the delivery itself."""
    message = work.envelope.message
    return message.record_key or message.ordering_key or message.position or work.envelope.key


class Lanes:
    """All lanes of this process.

    Args:
        parts: what the path works with.
        handlers: the Transactional ones.
        in_hand: told of every ending.
        caution: says when a delivery must run alone.
        permitted: whether anything may start now.
        landed: called after groups that landed entries of embedded topics.
    """

    def __init__(
        self,
        parts: Parts,
        handlers: Sequence[Handler],
        in_hand: InHand,
        *,
        caution: Caution,
        permitted: Callable[[], bool],
        landed: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._handlers = {handler.name: handler for handler in handlers}
        self._in_hand = in_hand
        self._caution = caution
        self._permitted = permitted
        self._landed = landed
        lanes = parts.groups.lanes if handlers and parts.groups is not None else 0
        self._lanes = [_Lane(number) for number in range(lanes)]
        self._busy: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self.left_behind: set[asyncio.Task[Any]] = set()
        self.paused = False
        self.stopping = False

    def put(self, work: Work) -> None:
        """Queue a delivery in the lane of its ordering key."""
        lane = self._lanes[hash(order_of(work)) % self._width(work.handler.name)]
        lane.queues.setdefault(work.handler.name, deque()).append(work)
        lane.wake.set()

    def look_for_due(self) -> None:
        """Something may be due in the store: the first lane looks, and wakes the next one when there is plenty."""
        if self._lanes:
            self._lanes[0].due = True
            self._lanes[0].wake.set()

    def waiting(self) -> list[Work]:
        """What waits for a connection now."""
        return [work for lane in self._lanes for queue in lane.queues.values() for work in queue]

    async def run(self) -> None:
        """Run all lanes until `stopping`."""
        await asyncio.gather(*(self._run(lane) for lane in self._lanes))

    def stop(self) -> None:
        """Start nothing more."""
        self.stopping = True
        for lane in self._lanes:
            lane.wake.set()

    def forget_queued(self) -> None:
        """Drop what has not started: its next owner gets it (a rebalance, or the end)."""
        for lane in self._lanes:
            for queue in lane.queues.values():
                queue.clear()

    async def idle(self) -> None:
        """Wait until no group is open."""
        await self._idle.wait()

    async def _run(self, lane: _Lane) -> None:
        while not self.stopping:
            if self.paused or not self._permitted():
                await asyncio.sleep(0.02)
                continue
            queue = lane.next_handler()
            if queue is None and not lane.due:
                await lane.wake.wait()
                lane.wake.clear()
                continue
            self._busy.add(lane.number)
            self._idle.clear()
            try:
                if queue is not None:
                    await self._group(lane, queue)
                if lane.due and not self.stopping:
                    lane.due = False
                    await self._due(lane)
            except StoreUnavailable as fault:
                self._parts.away.refused(fault)
                lane.due = True
                await asyncio.sleep(PAUSE)
            finally:
                self._busy.discard(lane.number)
                if not self._busy:
                    self._idle.set()

    async def _group(self, lane: _Lane, queue: deque[Work]) -> None:
        handler = queue[0].handler
        careful = self._caution.careful(queue[0])
        size = 1 if careful else lane.sizes.get(handler.name, FIRST_SIZE)
        works = [queue.popleft() for _ in range(min(size, len(queue)))]
        routed = self._parts.router.landed
        path = run_transactional(self._parts, works, careful=careful)
        try:
            endings = await self._watched(path, careful=careful)
        except Abandoned as given_up:
            await self._given_up(queue, works, given_up)
            return
        except BaseException:
            queue.extendleft(reversed(works))
            raise
        if not careful:
            self._resize(lane, handler, len(works), endings)
        late = [work for work, ending in zip(works, endings, strict=True) if ending is None]
        queue.extendleft(reversed(late))
        for work, ending in zip(works, endings, strict=True):
            if ending is not None:
                self._in_hand.ended(work, ending)
        if self._parts.router.landed != routed:
            self._landed()

    async def _due(self, lane: _Lane) -> None:
        """Take what the store delivers, handler by handler, until nothing is due."""
        for handler in self._handlers.values():
            if lane.number >= self._width(handler.name):
                continue
            while await self._due_group(lane, handler):
                self._wake_next(lane)
                if any(lane.queues.values()):
                    lane.due = (
                        True  # what comes from a broker must not starve behind a long backlog in the store
                    )
                    return
        if not lane.due:
            self._caution.drained()

    def _width(self, name: str) -> int:
        """Return how many lanes a handler may use: each runs one of its deliveries at a time, so `concurrency=` is kept."""
        return min(len(self._lanes), self._handlers[name].concurrency or len(self._lanes))

    async def _due_group(self, lane: _Lane, handler: Handler) -> bool:
        """Run one group of due entries; return whether there may be more."""
        if self.stopping or self.paused or not self._permitted():
            lane.due = True
            return False
        routed = self._parts.router.landed
        careful = self._caution.careful_with_due
        size = 1 if careful else lane.sizes.get(handler.name, FIRST_SIZE)
        path = run_due_alone(self._parts, handler) if careful else run_due(self._parts, handler, size)
        try:
            endings = await self._watched(path, careful=careful)
        except Abandoned as given_up:
            await count_abandoned(self._parts, given_up.attempt)
            return True
        self._parts.away.answered(wrote=bool(endings))
        if not careful and endings:
            self._resize(lane, handler, len(endings), endings)
        if self._parts.router.landed != routed:
            self._landed()
        if handler.ordered and endings:
            return True  # whatever has ended may have let the next one of its ordering key start
        return len(endings) >= size or None in endings

    async def _watched(
        self, path: Coroutine[Any, Any, list[Ending | None]], *, careful: bool
    ) -> list[Ending | None]:
        """Run a group; the careful way one at a time in all lanes: a killer costs nobody beside it an attempt."""
        if not careful:
            return await watched(self._parts, path, self.left_behind)
        try:
            await self._one_at_a_time.acquire()
        except BaseException:
            path.close()
            raise
        try:
            return await watched(self._parts, path, self.left_behind)
        finally:
            self._one_at_a_time.release()

    def _wake_next(self, lane: _Lane) -> None:
        if lane.number + 1 < len(self._lanes):
            following = self._lanes[lane.number + 1]
            following.due = True
            following.wake.set()

    async def _given_up(self, queue: deque[Work], works: Sequence[Work], given_up: Abandoned) -> None:
        """Count the attempt of a handler that ignores its cancellation; its neighbours go back to the queue."""
        culprit = given_up.attempt.work
        queue.extendleft(work for work in reversed(works) if work is not culprit)
        try:
            ending = await count_abandoned(self._parts, given_up.attempt)
        except StoreUnavailable as fault:
            ending = running_elsewhere(str(fault))  # in hand all the same, and asked about again
        self._in_hand.ended(culprit, ending)

    def _resize(self, lane: _Lane, handler: Handler, size: int, endings: Sequence[Ending | None]) -> None:
        known = lane.sizes.get(handler.name, FIRST_SIZE)
        if any(ending is None for ending in endings):
            ended = sum(ending is not None for ending in endings)
            lane.sizes[handler.name] = max(1, min(ended, known // 2) if ended else known // 2)
        elif size >= known:
            lane.sizes[handler.name] = min(known * 2, LARGEST_SIZE)
