"""A worker process from its start to its end: wait for store and broker, say ready, consume, drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from consumer.app import App, Running
from consumer.cli.signals import Signals
from consumer.errors import BrokerUnavailable, SettingsError, StoreUnavailable
from consumer.http.server import listening
from consumer.observe.observed import Observed
from consumer.path.parts import Observer
from consumer.settings import Settings

__all__ = ["serve"]

_log = logging.getLogger("consumer.run")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds between attempts to start: doubled from the first to the longest."""


async def serve(
    app: App,
    settings: Settings,
    signals: Signals,
    observer: Observer,
    ready: Callable[[str | None], None],
    *,
    consume: bool = True,
    relay: bool = True,
    ingest: tuple[str, int] | None = None,
) -> bool:
    """Consume, relay, or both, until a signal asks for the end.

    A store or broker that is away at the start is waited for. Once ready, the worker itself goes on through absences.

    Args:
        app: what runs.
        settings: its own.
        signals: installed already.
        observer: sees every ending.
        ready: called once, when it has begun, with the address of the HTTP server where there is one: `127.0.0.1:8080`.
        consume: feed the handlers.
        relay: pass the outbox on.
        ingest: host and port of an HTTP server to run in the same process.

    Returns:
        Whether everything in hand had ended.

    Raises:
        SettingsError, RegistrationError: it can never work like this.
        Exception: a part of the worker has ended by a bug.
    """
    app.handlers.check()
    observed = app.observed(settings, observer)
    begin = partial(
        _Life, app, settings, signals, observed, ready, consume=consume, relay=relay, ingest=ingest
    )
    with observed.served():
        return await _lives(signals, begin)


async def _lives(signals: Signals, begin: Callable[[], _Life]) -> bool:
    """Try to start until it works or is not wanted any more."""
    pause = FIRST_PAUSE
    while not signals.stopping.is_set():
        life = begin()
        try:
            return await life.lead()
        except SettingsError:  # also where a store refuses: nobody is told of it by waiting
            raise
        except (StoreUnavailable, BrokerUnavailable) as fault:
            if life.started:
                raise
            _log.warning("not ready, trying again in %g s: %s", pause, fault)
        try:
            async with asyncio.timeout(pause):
                await signals.stopping.wait()
        except TimeoutError:
            pause = min(pause * 2, LONGEST_PAUSE)
    return True


class _Life:
    """One attempt to start, and what follows it."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        signals: Signals,
        observed: Observed,
        ready: Callable[[str | None], None],
        *,
        consume: bool,
        relay: bool,
        ingest: tuple[str, int] | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._signals = signals
        self._observed = observed
        self._ready = ready
        self._consume = consume
        self._relay = relay
        self._ingest = ingest
        self.started = False

    async def lead(self) -> bool:
        """Run; a signal during the start ends it there. In one task: resources may not be closed by another."""
        work = asyncio.create_task(self._work(), name="worker")
        stop = asyncio.create_task(self._signals.stopping.wait(), name="stop")
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done() and not self.started:
                work.cancel()
                await asyncio.wait({work})
                return True
            return await work
        finally:
            stop.cancel()

    async def _work(self) -> bool:
        measured = bool(self._settings.health_port) or self._ingest is not None
        async with self._app.running(
            self._settings,
            consume=self._consume,
            relay=self._relay,
            observer=self._observed,
            measured=measured,
            serves=self._ingest is not None,
        ) as running:
            self.started = True
            self._observed.opened(running.runtime, running.desk)
            async with self._listening(running) as address:
                self._ready(address)
                await self._until_the_end(running.runtime.failed())
        return running.clean

    @asynccontextmanager
    async def _listening(self, running: Running) -> AsyncIterator[str | None]:
        """Serve HTTP too, where that was asked for; its requests end before the worker does."""
        if self._ingest is None:
            yield None
            return

        @asynccontextmanager
        async def opened() -> AsyncIterator[Running]:
            yield running

        service = self._app.serving(opened, self._observed)
        host, port = self._ingest
        async with service.lifespan(), listening(service, host, port, grace=self._settings.grace) as address:
            yield address

    async def _until_the_end(self, failed: Coroutine[Any, Any, None]) -> None:
        stop = asyncio.create_task(self._signals.stopping.wait())
        broken = asyncio.create_task(failed)
        try:
            await asyncio.wait({stop, broken}, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                broken.result()
        finally:
            stop.cancel()
            broken.cancel()
