"""Deliveries in hand: acknowledged when every handler's entry permits it, asked again until then."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection

from consumer.message import Delivery
from consumer.path.parts import Ending, Work
from consumer.ports.transport import Clock, Source

__all__ = ["InHand"]

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between questions about a key that runs elsewhere: doubled from the first to the longest."""


class InHand:
    """Knows which handlers a delivery still waits for, and the works to be asked again.

    Args:
        source: acknowledges; `None` where only the store delivers.
        clock: the pauses' clock.
    """

    def __init__(self, source: Source | None, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        # By name, not by number: a handler that was given up ends twice, the second time when it completes late.
        self._waiting: dict[int, tuple[float, set[str], Delivery]] = {}
        self._again: list[tuple[float, int, Work]] = []
        self._order = itertools.count()

    def take(self, delivery: Delivery, handlers: Collection[str]) -> None:
        """Take a delivery in hand for these handlers; with none it is acknowledged at once."""
        if handlers:
            self._waiting[id(delivery)] = self._clock.monotonic(), set(handlers), delivery
        elif self._source is not None:
            self._source.ack(delivery)

    def ended(self, work: Work, ending: Ending) -> None:
        """A handler's entry for this delivery has come to rest, or not: then it is asked again later."""
        delivery = work.delivery
        if delivery is None or self._source is None:
            return  # the store keeps it and delivers it again by itself
        if not self._source.held(delivery):
            self.drop(delivery)
        elif ending.ack:
            self.permit(delivery, work.handler.name)
        else:
            pause = min(FIRST_PAUSE * 2**work.asked, LONGEST_PAUSE)
            work.asked = min(work.asked + 1, 10)
            heapq.heappush(self._again, (self._clock.monotonic() + pause, next(self._order), work))

    def permit(self, delivery: Delivery, handler: str) -> None:
        """This handler's entry permits the acknowledgement; the last one acknowledges."""
        known = self._waiting.get(id(delivery))
        if known is None or self._source is None:
            return
        _, waiting, _ = known
        waiting.discard(handler)
        if not waiting:
            del self._waiting[id(delivery)]
            self._source.ack(delivery)

    def held(self, work: Work) -> bool:
        """Whether this work's delivery is still ours (or the store's own); one that is not is dropped."""
        delivery = work.delivery
        if delivery is None or self._source is None or self._source.held(delivery):
            return True
        self.drop(delivery)
        return False

    def drop(self, delivery: Delivery) -> None:
        """The arrival is no longer ours: its next owner is responsible for it."""
        self._waiting.pop(id(delivery), None)

    def due(self, dispatch: Callable[[Work], None]) -> float | None:
        """Dispatch the works whose pause is over; return the seconds until the next one, `None` where there is none."""
        now = self._clock.monotonic()
        while self._again and self._again[0][0] <= now:
            _, _, work = heapq.heappop(self._again)
            if self.held(work):
                dispatch(work)
        return self._again[0][0] - now if self._again else None

    @property
    def oldest(self) -> float | None:
        """When the delivery that has been in hand longest was taken, by the clock; `None` where there is none."""
        self._forget_lost()
        return next((taken for taken, _, _ in self._waiting.values()), None)

    def _forget_lost(self) -> None:
        """Drop what was taken first and is not ours any more: a rebalance forgets what waits, and nothing of it ends here."""
        while self._waiting and self._source is not None:
            _, _, first = next(iter(self._waiting.values()))
            if self._source.held(first):
                return
            self.drop(first)

    def __len__(self) -> int:
        return len(self._waiting)
