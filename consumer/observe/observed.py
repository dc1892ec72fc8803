"""One observed process: its counters, its loop's watch, its health and metrics, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from consumer.declare.handlers import Handler
from consumer.entry import Landed, Landing
from consumer.observe.exposition import Exposition
from consumer.observe.health import Health, Told
from consumer.observe.samples import Samples, of_process, of_runtime, of_tally, of_webhooks
from consumer.observe.tally import Tally
from consumer.observe.watch import LoopWatch
from consumer.path.desk import Desk
from consumer.path.parts import Ending, Observer, Work
from consumer.settings import Settings
from consumer.worker.wiring import Runtime

__all__ = ["Observed"]


class Observed:
    """`path.parts.Observer` of a process, and what is told of it.

    Args:
        handlers: what is declared.
        providers: the names of those who send webhooks here.
        settings: `loop_limit`, `health_host` and `health_port`.
        other: another observer, told of everything too.
    """

    def __init__(
        self,
        handlers: Sequence[Handler],
        providers: Sequence[str],
        settings: Settings,
        other: Observer | None = None,
    ) -> None:
        self.tally = Tally(handlers)
        self.watch = LoopWatch(self._named)
        self.health = Health(self.watch, settings.loop_limit, Exposition(self.samples).render)
        self._providers = tuple(dict.fromkeys(providers))
        self._settings = settings
        self._other = other
        if other is None:  # a call less for every delivery
            self.ended = self.tally.ended  # type: ignore[method-assign]
        self._runtime: Runtime | None = None
        self._desk: Desk | None = None

    # --- `path.parts.Observer` ----------------------------------------------------------------------------------------

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        """See `path.parts.Observer`."""
        self.tally.ended(work, ending, seconds)
        if self._other is not None:
            self._other.ended(work, ending, seconds)

    def arrived(self, landing: Landing, landed: Landed) -> None:
        """See `path.parts.Observer`."""
        self.tally.arrived(landing, landed)
        if self._other is not None:
            self._other.arrived(landing, landed)

    # --- a process' life ----------------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[None]:
        """Watch the running event loop, and serve the health port where the settings name one.

        Raises:
            SettingsError: nobody can listen there.
        """
        with self.watch.watching():
            if not self._settings.health_port:
                yield
                return
            from consumer.observe.server import serving  # noqa: PLC0415 - most commands serve nothing

            with serving(self.answer, self._settings.health_host, self._settings.health_port):
                yield

    def opened(self, runtime: Runtime, desk: Desk) -> None:
        """Tell of this runtime from now on, also while it ends."""
        self._runtime = self.health.runtime = runtime
        self._desk = desk

    def answer(self, path: str, more: Sequence[str] = ()) -> Told:
        """As `Health.answer`."""
        return self.health.answer(path, more)

    def samples(self) -> Samples:
        """Return all samples of now."""
        found = of_process(ready=not self.health.troubles(), lag=self.watch.lag)
        found |= of_tally(self.tally, self._runtime)
        found |= of_webhooks(self._providers, self._desk)
        return found if self._runtime is None else found | of_runtime(self._runtime)

    def _named(self, task: asyncio.Task[Any]) -> str | None:
        running = None if self._runtime is None else self._runtime.parts.running.get(task)
        return None if running is None else running.work.handler.where
