"""Is the event loop alive? It ticks; a thread looks at the ticks, and says whose code holds it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["HELD", "LoopWatch"]

_log = logging.getLogger("consumer.loop")

TICK = 0.25
"""Seconds between two ticks of the loop, and between two looks of the thread."""

HELD = 1.0
"""Seconds after which whoever holds the loop is named in a warning: nothing else of the process moves meanwhile."""

WINDOW = 15.0
"""Seconds for which the worst lag is told: longer than the pause between two scrapes."""


class LoopWatch:
    """Watches one event loop.

    Args:
        named: says in one line which handler a task runs; `None` where it runs none.
        held: seconds after which a warning is due.
    """

    def __init__(self, named: Callable[[asyncio.Task[Any]], str | None], *, held: float = HELD) -> None:
        self._named = named
        self._held = held
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._ticked: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._lags: deque[tuple[float, float]] = deque()
        self._stop = threading.Event()
        self.warned = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the running loop for as long as the block lasts."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._stop = stop = threading.Event()
        self._tick()
        threading.Thread(target=self._look, args=(stop,), name="loop watch", daemon=True).start()
        try:
            yield
        finally:
            stop.set()
            if self._handle is not None:
                self._handle.cancel()
            self._ticked = None

    @property
    def ticks(self) -> bool:
        """Whether the loop has ticked yet, and is still meant to."""
        return self._ticked is not None

    @property
    def held(self) -> float:
        """Seconds for which the loop has been held up to now; 0 where it ticks in time."""
        ticked = self._ticked
        return 0.0 if ticked is None else max(time.monotonic() - ticked - TICK, 0.0)

    @property
    def lag(self) -> float:
        """The worst lag of the last seconds, the present one included."""
        since = time.monotonic() - WINDOW
        # A copy: the loop appends while another thread reads.
        return max([self.held, *(lag for at, lag in self._lags.copy() if at >= since)])

    def _tick(self) -> None:
        if self._loop is None:
            return
        now = time.monotonic()
        if self._ticked is not None:
            self._lags.append((now, max(now - self._ticked - TICK, 0.0)))
            while self._lags[0][0] < now - WINDOW:
                self._lags.popleft()
        self._ticked = now
        self._handle = self._loop.call_later(TICK, self._tick)

    def _look(self, stop: threading.Event) -> None:
        """Warn once for each time that the loop is held."""
        warned_of: float | None = None
        while not stop.wait(TICK):
            ticked = self._ticked
            if ticked is None or ticked == warned_of or self.held < self._held:
                continue
            warned_of = ticked
            self.warned += 1
            _log.warning(
                "%s holds the event loop for %.1f s already; nothing else of this process moves (%s)",
                self._holder(),
                self.held,
                self._place(),
            )

    def _holder(self) -> str:
        task = asyncio.current_task(self._loop) if self._loop is not None else None
        if task is None:
            return "a callback"
        return self._named(task) or f"the task {task.get_name()!r}"

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 - there is no other way to see another thread
        return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
