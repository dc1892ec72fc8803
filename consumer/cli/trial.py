"""One handler tried on a throw-away store: deliver, kill, start again, look."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from consumer.app import App
from consumer.cli.exits import Code, Stop
from consumer.cli.migrate import migrated
from consumer.declare.handlers import Handler
from consumer.entry import Entry, Landing, State
from consumer.message import Outgoing
from consumer.operate.explain import reconciles
from consumer.path.routing import Router
from consumer.ports.store import Store
from consumer.stores import open_store

__all__ = ["LIMIT", "Trial", "Trialled"]

LIMIT = 60.0
"""Seconds for one trial: five attempts with the default delays take 15."""

_LOOK = 0.05
_STOP = 5.0


class Trialled(msgspec.Struct, frozen=True):
    """How a trial ended.

    Attributes:
        starts: how often the handler was started, in all processes together.
        entry: of the message; `None`: there is none.
        killed: a process was killed inside the handler.
    """

    starts: int
    entry: Entry | None
    killed: bool = False


class Trial:
    """One handler, one message, one fresh store.

    Args:
        app: as loaded.
        name: how a child process loads it: `module:attribute`.
        handler: which is tried.
        message: what is delivered; every delivery gets an id of its own.
        folder: an empty one, for the store and the journal of starts.
    """

    def __init__(self, app: App, name: str, handler: Handler, message: Outgoing, folder: Path) -> None:
        self._app = app
        self._name = name
        self._handler = handler
        self._message = message
        self._journal = folder / "starts"
        self._url = f"sqlite:///{folder / 'try.db'}"
        # The others that subscribe to this topic are left out: their turn comes, on a store of their own.
        self._router = Router(app.name, [handler])

    async def thrice(self) -> Trialled:
        """Deliver the message three times to a running worker."""
        async with self._store() as store:
            landing = await self._deliver(store)
            child = await self._start(kill=False)
            try:
                await self._at_rest(store, landing, child)
                for _ in range(2):
                    await self._deliver(store)
                entry = await self._at_rest(store, landing, child)
            finally:
                await _end(child)
            return Trialled(self._starts(), entry)

    async def kill(self) -> Trialled:
        """Deliver it once, to a worker that kills itself when the handler has run; then start another worker."""
        async with self._store() as store:
            landing = await self._deliver(store)
            child = await self._start(kill=True)
            try:
                entry = await self._at_rest(store, landing, child, dies=True)
            finally:
                await _end(child)
            if child.returncode != _KILLED:
                return Trialled(self._starts(), entry)
            child = await self._start(kill=False)
            try:
                entry = await self._at_rest(store, landing, child)
            finally:
                await _end(child)
            return Trialled(self._starts(), entry, killed=True)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Store]:
        await migrated(self._app, self._url)
        store = open_store(self._url, self._app.name)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    async def _deliver(self, store: Store) -> Landing:
        [landing] = self._router.landings(msgspec.structs.replace(self._message, id=uuid.uuid4().bytes))
        await store.arrivals.land([landing])
        return landing

    async def _start(self, *, kill: bool) -> asyncio.subprocess.Process:
        """Start a worker of the app; what it prints goes to stderr, so that stdout is the report alone."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "consumer.cli.trial_worker",
            self._name,
            self._url,
            str(self._journal),
            self._handler.name,
            "kill" if kill else "live",
            stdin=asyncio.subprocess.PIPE,
            stdout=2,
        )

    async def _at_rest(
        self, store: Store, landing: Landing, child: asyncio.subprocess.Process, *, dies: bool = False
    ) -> Entry | None:
        """Wait until the entry does not change any more, or the child is gone, or the time is up."""
        deadline = time.monotonic() + LIMIT
        asks = LIMIT / 2 if reconciles(self._handler) else 0.0
        doubted: float | None = None
        while True:
            entry = await _entry(store, landing)
            state = State.ABSENT if entry is None else entry.state
            if state in {State.DONE, State.DEAD} or time.monotonic() > deadline:
                return entry
            if state is State.IN_DOUBT:
                doubted = time.monotonic() if doubted is None else doubted
                if time.monotonic() >= doubted + asks:
                    return entry
            if child.returncode is not None:
                if not (dies and child.returncode == _KILLED):
                    raise Stop(
                        Code.FAILED, f"error: the worker ended by itself (exit code {child.returncode})"
                    )
                return entry
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), _LOOK)

    def _starts(self) -> int:
        try:
            return len(self._journal.read_bytes().splitlines())
        except FileNotFoundError:
            return 0


_KILLED = -9


async def _entry(store: Store, landing: Landing) -> Entry | None:
    found = await store.operator.find(landing.identity.hex().encode())
    return next((entry for entry in found if entry.identity == landing.identity), None)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Ask the worker to end (it listens to its stdin), and do not wait for ever."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        async with asyncio.timeout(_STOP):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
