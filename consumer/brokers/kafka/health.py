"""Whether the broker answers: aiokafka reconnects by itself and tells nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

__all__ = ["Health"]

_log = logging.getLogger(__name__)


class Health:
    """Remembers when the broker was last heard, and asks when it is silent.

    Args:
        bootstrap: for logs.
        heard_of: a number that changes with every answer to a fetch.
        ask: a question that only a broker can answer.
        limit: seconds of silence after which it counts as away.
        interval: seconds between two looks.
    """

    def __init__(
        self,
        bootstrap: str,
        heard_of: Callable[[], int],
        ask: Callable[[], Awaitable[object]],
        *,
        limit: float = 10.0,
        interval: float = 2.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._heard_of = heard_of
        self._ask = ask
        self._limit = limit
        self._interval = interval
        self._mark = 0
        self._heard_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the broker was last heard."""
        return time.monotonic() - self._heard_at

    @property
    def ok(self) -> bool:
        """Whether the broker answers."""
        return self.silence < self._limit

    def heard(self) -> None:
        """Say that the broker has answered."""
        self._heard_at = time.monotonic()

    async def run(self) -> None:
        """Look and ask, until cancelled; log when the broker goes and when it is back."""
        well = True
        while True:
            await self._look()
            if self.ok != well:
                well = self.ok
                if well:
                    _log.warning("Kafka at %s answers again", self._bootstrap)
                else:
                    _log.error("Kafka at %s has not answered for %.0f s", self._bootstrap, self.silence)
            await asyncio.sleep(self._interval)

    async def _look(self) -> None:
        mark = self._heard_of()
        if mark != self._mark:
            self._mark = mark
            self.heard()
        elif self.silence > self._interval:  # every partition is full or empty-handed: nothing is fetched
            try:
                async with asyncio.timeout(self._interval):
                    await self._ask()
            except Exception as error:  # noqa: BLE001 - whatever it is, it was no answer
                _log.debug("Kafka at %s: %r", self._bootstrap, error)
                return
            self.heard()
