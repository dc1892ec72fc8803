"""The process' sign of life, renewed from a thread of its own with its own connection.

A handler that blocks the event loop must not make the worker look dead at once, and a loop that hangs for good must: the
beat stops when the loop has not ticked for a while.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from consumer.errors import ConsumerError
from consumer.ports.store import Store

__all__ = ["Pulse"]

_log = logging.getLogger("consumer.pulse")


class Pulse:
    """Beats for one worker at a time.

    Args:
        connect: makes a store handle for the thread (opened there, on the thread's own event loop).
        ttl: seconds without a beat after which others close the worker.
    """

    def __init__(self, connect: Callable[[], Store], ttl: float) -> None:
        self._connect = connect
        self._ttl = ttl
        self.interval = max(ttl / 5, 0.2)
        self._worker: int | None = None
        self._last = 0.0
        self._ticked = time.monotonic()
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def bind(self, worker: int) -> None:
        """Beat for this worker from now on; it was opened just now, which counts as a beat."""
        self._last = time.monotonic()
        self._lost = False
        self._worker = worker

    def tick(self) -> None:
        """The event loop is alive; called from it several times per time-to-live."""
        self._ticked = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether handlers may be started: the last beat is younger than the time-to-live minus a margin."""
        return not self._lost and time.monotonic() - self._last < self._ttl * 0.7

    @property
    def lost(self) -> bool:
        """Whether the store has said that the worker is closed: it never revives, a new one must be opened."""
        return self._lost

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._beat()), name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; waits for the thread for a short time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    async def _beat(self) -> None:
        store = self._connect()
        opened, refused = False, False
        while not self._stop.is_set():
            worker = self._worker
            # half a time-to-live: a blocked loop is noticed by others before its claims look alive for ever
            if worker is not None and not self._lost and time.monotonic() - self._ticked < self._ttl / 2:
                asked = time.monotonic()
                try:
                    if not opened:
                        await store.open(check=False)
                        opened = True
                    if await store.workers.beat(worker):
                        self._last = asked
                        refused = False
                    elif worker == self._worker:
                        self._lost = True
                        _log.error(
                            "worker %d was closed by another process: its sign of life came too late", worker
                        )
                except ConsumerError as fault:
                    # Its first refusal says something; how long it lasts is said by those who ask more often.
                    _log.log(logging.DEBUG if refused else logging.WARNING, "no beat: %s", fault)
                    refused = True
            await asyncio.to_thread(self._stop.wait, self.interval)
        await store.close()
