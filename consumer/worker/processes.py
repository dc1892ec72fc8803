"""Several worker processes of one command: start them, start again what dies, end them all together.

Each child is an ordinary worker that knows nothing of its siblings; what they share is the store and the broker. The
supervisor opens neither, so nothing that a handler does can end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from consumer.worker.passing import pass_through

__all__ = ["CONFIGURATION", "DEATHS", "WINDOW", "Supervisor"]

_log = logging.getLogger("consumer.processes")

DEATHS = 5
WINDOW = 60.0
"""A process that dies so often within so many seconds is not started again: the supervisor ends, and says why."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
"""Seconds before a process is started again: doubled with every death in the window, from the first to the longest."""

CONFIGURATION = 78
"""The exit code that no new start mends."""

_MARGIN = 20.0
"""Seconds beyond the grace until a child is killed: it ends itself by then, unless it cannot."""


class Supervisor:
    """Runs `count` children until `stop`, or until one of them cannot be kept alive.

    Args:
        command: the command line of child number 1, 2, ….
        count: how many.
        grace: seconds that each child gives its handlers; after it and a margin a child is killed.
        say: given each line that a child prints but `ready`, after its number: `[2] p-1 done 4 ms`.
        ready: called once, when every child has said `ready`.
        pauses: first and longest pause before a new start, in seconds.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        count: int,
        *,
        grace: float,
        say: Callable[[str], None],
        ready: Callable[[], None],
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
    ) -> None:
        self._command = command
        self._limit = grace + _MARGIN
        self._say = say
        self._ready = ready
        self._pauses = pauses
        self._children = [_Child(number) for number in range(1, count + 1)]
        self._stopping = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Keep the children alive; return the exit code when all have ended.

        0: they were asked to end, and each ended with 0. 1: one did not, or died too often. 78: one says that its
        configuration is wrong.
        """
        # The first one alone: what is wrong with all of them is then said once.
        first, *rest = self._children
        keeping = [asyncio.create_task(self._keep(first))]
        ready = asyncio.create_task(first.ready.wait())
        await asyncio.wait({ready, *keeping}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._stopping.is_set():
            keeping += [asyncio.create_task(self._keep(child)) for child in rest]
        announcing = asyncio.create_task(self._announce())
        try:
            await asyncio.gather(*keeping)
        finally:
            announcing.cancel()
            self.kill()
        return self._code

    def stop(self) -> None:
        """Ask every child to end; a second call asks again, which ends them at once."""
        self._stopping.set()
        for child in self._children:
            child.send(signal.SIGTERM)

    def kill(self) -> None:
        """End every child that is left, now."""
        for child in self._children:
            child.send(signal.SIGKILL)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that live."""
        return [child.process.pid for child in self._children if child.alive and child.process is not None]

    async def _announce(self) -> None:
        for child in self._children:
            await child.ready.wait()
        self._ready()

    def _end(self, code: int) -> None:
        self._code = self._code or code
        if not self._stopping.is_set():
            self.stop()

    async def _keep(self, child: _Child) -> None:
        """Start one child again and again, until the end."""
        while not self._stopping.is_set():
            code = await self._once(child)
            if self._stopping.is_set():
                self._end(0 if code == 0 else 1)
            elif code == CONFIGURATION:
                _log.error("process %d: exit code %d: its configuration is wrong; ending", child.number, code)
                self._end(CONFIGURATION)
            else:
                await self._died(child, code)

    async def _once(self, child: _Child) -> int:
        """Run one child to its end; return its exit code, 0 where it was ended before it had anything in hand."""
        try:
            process = await child.start(self._command(child.number))
        except OSError as fault:
            _log.error("process %d cannot be started: %s", child.number, fault)
            return 1
        if self._stopping.is_set():  # a signal came while it was being started
            child.send(signal.SIGTERM)
        reading = asyncio.create_task(pass_through(process.stdout, lambda line: self._heard(child, line)))
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            await asyncio.wait({ended}, timeout=self._limit)
        if not ended.done():
            _log.error("process %d did not end within %g s; killing it", child.number, self._limit)
            child.send(signal.SIGKILL)
        code = await ended
        await asyncio.wait({reading}, timeout=1.0)  # a grandchild may hold the pipe
        reading.cancel()
        await _closed(process.stdin)
        young = not child.said_ready and self._stopping.is_set()
        return 0 if young and code in {-signal.SIGTERM, -signal.SIGINT} else code

    def _heard(self, child: _Child, line: str) -> None:
        if not child.said_ready and line.startswith("ready"):
            child.said_ready = True
            child.ready.set()
            # Not passed on: whoever waits for the first line that begins with `ready` waits for all of them.
            _log.info("process %d is ready: %s", child.number, line.removeprefix("ready").strip())
            return
        self._say(f"[{child.number}] {line}")

    async def _died(self, child: _Child, code: int) -> None:
        deaths = child.died()
        what = f"process {child.number} (pid {child.pid}) {_ended(code)}"
        if deaths >= DEATHS:
            _log.error("%s; that was the %dth time within %g s, giving up", what, deaths, WINDOW)
            self._end(1)
            return
        first, longest = self._pauses
        pause = min(first * 2 ** (deaths - 1), longest)
        _log.error("%s; starting it again in %g s", what, pause)
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({stopping}, timeout=pause)
        stopping.cancel()


class _Child:
    """One place among the children: the process that fills it now, and when earlier ones died."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.pid = 0
        self.ready = asyncio.Event()
        self.said_ready = False
        self._deaths: deque[float] = deque()

    async def start(self, command: Sequence[str]) -> Any:
        """Start a process that ends when its stdin does, so that it never outlives its supervisor."""
        self.said_ready = False
        self.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A group of its own: Ctrl-C on a terminal reaches the supervisor alone, which passes it on once.
            start_new_session=True,
        )
        self.pid = self.process.pid
        return self.process

    @property
    def alive(self) -> bool:
        """Whether a process fills this place."""
        return self.process is not None and self.process.returncode is None

    def send(self, number: int) -> None:
        """Send a signal, where there is somebody to receive it."""
        if self.alive and self.process is not None:
            try:
                os.kill(self.process.pid, number)
            except ProcessLookupError:
                return

    def died(self) -> int:
        """Count a death; return how many there were within the window."""
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > WINDOW:
            self._deaths.popleft()
        return len(self._deaths)


async def _closed(stream: asyncio.StreamWriter | None) -> None:
    if stream is not None:
        stream.close()
        with contextlib.suppress(OSError):
            await stream.wait_closed()


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
