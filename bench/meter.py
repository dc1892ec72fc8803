"""Seconds and CPU from the first message to the last, the same way for every contestant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from consumer.message import Delivery
from consumer.ports.transport import Source

__all__ = ["Measured", "Meter", "MeteredSource"]


class Measured(msgspec.Struct):
    """What a contestant reports.

    Attributes:
        seconds: from the first message's arrival to the last one's end.
        cpu: CPU seconds of this process (all threads, kernel included) in between.
        started: handlers that ran; -1 where a rollback may run one twice.
    """

    seconds: float
    cpu: float
    started: int = -1


class Meter:
    """Begins with the first arrival and ends when all messages have ended.

    Args:
        messages: how many.
    """

    def __init__(self, messages: int) -> None:
        self._left = messages
        self._began: tuple[float, float] | None = None
        self._took = (0.0, 0.0)
        self.done = asyncio.Event()

    def arrived(self) -> None:
        """Note that messages have arrived."""
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def ended(self, count: int = 1) -> None:
        """Note that so many messages need never come again: their effect is committed."""
        self._left -= count
        if self._left <= 0 and self._began is not None and not self.done.is_set():
            wall, cpu = self._began
            self._took = time.perf_counter() - wall, time.process_time() - cpu
            self.done.set()

    def measured(self, started: int = -1) -> Measured:
        """Return the result, once `done`."""
        return Measured(*self._took, started)


class MeteredSource:
    """A source that tells a meter of arrivals and acknowledgements.

    Args:
        source: the real one.
        meter: told.
    """

    def __init__(self, source: Source, meter: Meter) -> None:
        self._source = source
        self._meter = meter
        self.held = source.held

    async def start(self, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
        """See `ports.transport.Source`."""
        await self._source.start(topics, on_revoked)

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """See `ports.transport.Source`."""
        deliveries = await self._source.poll(limit, timeout)
        if deliveries:
            self._meter.arrived()
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        """See `ports.transport.Source`."""
        self._source.ack(delivery)
        self._meter.ended()

    async def stop(self) -> None:
        """See `ports.transport.Source`."""
        await self._source.stop()
