"""What only store and broker know of an app, looked up now and then for the metrics: never when somebody scrapes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from consumer.errors import BrokerUnavailable, ConsumerError, SettingsError
from consumer.path.parts import Parts
from consumer.ports.operator import Backlog, Count
from consumer.ports.store import Store
from consumer.ports.transport import Lag, Measured

__all__ = ["Figures", "measured"]

_log = logging.getLogger("consumer.figures")

EVERY = 10.0
"""Seconds between two looks."""

SHARE = 20
"""A look that took long is repeated after so many times as long: counting a large inbox must not become its load."""


def measured(source: object) -> Measured | None:
    """Return a source that knows how it is doing, `None` for any other."""
    return source if isinstance(source, Measured) else None


class Figures:
    """The latest answers. Written by the event loop, read by whoever serves the metrics.

    Args:
        parts: names the app, has the clock.
        store: is asked for counts.
        source: is asked how far behind it is, where it is one that knows.
        lanes_waiting: ordering keys of which something waits in this process, by handler.

    Attributes:
        counts: entries by handler and state.
        backlog: of the outbox; `None` before the first look.
        lags: by partition.
        waiting: see `lanes_waiting`.
        looked_at: when the store was asked last, in seconds since 1970; 0 before.
    """

    def __init__(
        self,
        parts: Parts,
        store: Store,
        source: object,
        lanes_waiting: Callable[[], Mapping[str, int]],
    ) -> None:
        self._parts = parts
        self._store = store
        self._source = measured(source)
        self._lanes_waiting = lanes_waiting
        self.counts: Sequence[Count] = ()
        self.backlog: Backlog | None = None
        self.lags: Sequence[Lag] = ()
        self.waiting: Mapping[str, int] = {}
        self.looked_at = 0.0

    async def run(self) -> None:
        """Look until cancelled; while store or broker do not answer, the last figures stay."""
        while True:
            took = 0.0
            try:
                took = await self.look()
            except ConsumerError as fault:
                _log.debug("no new figures: %s", fault)
            await asyncio.sleep(max(EVERY, SHARE * took))

    async def look(self) -> float:
        """Ask once; return how many seconds the store took.

        Raises:
            ConsumerError: the store does not answer.
        """
        clock = self._parts.clock
        self.waiting = self._lanes_waiting()
        if self._source is not None:
            try:
                self.lags = await self._source.lag()
            except (BrokerUnavailable, SettingsError) as fault:
                _log.debug("no new lag: %s", fault)
        begun = clock.monotonic()
        self.counts = await self._store.operator.stats(app=self._parts.app)
        self.backlog = await self._store.operator.backlog()
        self.looked_at = clock.time()
        return clock.monotonic() - begun
