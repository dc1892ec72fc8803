"""SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

__all__ = ["MARGIN", "Signals", "end_now", "end_with_stdin"]

MARGIN = 15.0
"""Seconds beyond the grace in which everything else must have ended: settling, leaving the broker, closing."""


class Signals:
    """Listens from `install` on. A handler that blocks the event loop cannot keep the process: a thread watches.

    Args:
        grace: seconds that running handlers are given.

    Attributes:
        stopping: set by the first signal.
    """

    def __init__(self, grace: float) -> None:
        self.stopping = asyncio.Event()
        self._limit = grace + MARGIN
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seen = False
        self._reading, self._writing = os.pipe()

    def install(self) -> None:
        """Listen; call it in the main thread, inside the event loop."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of signal.signal
        if self._seen:
            end_now(1)
        self._seen = True
        # A write to a pipe is all that a signal handler may safely do to another thread: locks may be held.
        os.write(self._writing, b"x")
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the end has come anyway
                self._loop.call_soon_threadsafe(self.stopping.set)

    def _watch(self) -> None:
        os.read(self._reading, 1)
        time.sleep(self._limit)
        end_now(1)


def end_with_stdin() -> None:
    """Ask this process to end when its stdin does: whoever started it and holds the other end is gone."""

    def listen() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=listen, name="stdin", daemon=True).start()


def end_now(code: int) -> NoReturn:
    """End the process without waiting for anybody, after writing out what was said."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            stream.flush()
    os._exit(code)
