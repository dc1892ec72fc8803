"""A thread per connection: SQLite blocks, and the event loop must not."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from consumer.errors import SettingsError, StoreUnavailable

__all__ = ["Hop", "Ticket"]

P = ParamSpec("P")
T = TypeVar("T")

_Done = Callable[[Any, BaseException | None], None]


class Ticket:
    """Decides once whether a piece of work starts or is given up; both sides may ask at the same moment."""

    __slots__ = ("_decision",)

    def __init__(self) -> None:
        self._decision = threading.Lock()

    def use(self) -> bool:
        """Whether the caller decides: the thread that starts the work, or the waiter that gives it up."""
        return self._decision.acquire(blocking=False)


class Hop:
    """One daemon thread that does what it is given, in order.

    It is a daemon, which `ThreadPoolExecutor`'s threads are not: a process whose thread waits for a lock that
    a stopped process holds must be able to end.

    Args:
        name: the thread's name, for people who look at a stack.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], _Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._ended = False

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` in the thread and return what it returns.

        A caller that is cancelled stops waiting; the work goes on to its end, because a thread cannot be
        stopped.

        Raises:
            SettingsError: this process is a fork of the one that opened the store.
            StoreUnavailable: the store was closed.
        """
        return await asyncio.shield(self.submit(lambda: work(*args, **kwargs)))

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue `work`; the future of the running loop gets what it returns, unless it is resolved before.

        Raises:
            SettingsError: as `run`.
            StoreUnavailable: as `run`.
        """
        if self._ended:
            raise StoreUnavailable("this store handle is closed")
        if self._process != os.getpid():
            raise SettingsError(
                f"this store handle was opened by process {self._process}: SQLite's connections do not"
                " survive a fork, open a new one in each process"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def done(value: T, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(_resolve, future, value, error)
            except RuntimeError:
                return  # the loop was closed meanwhile: nobody waits any more

        self._work.put((work, done))
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        return future

    async def end(self, last: Callable[[], None], patience: float) -> None:
        """Do `last` after all other work, then end the thread; wait for that up to `patience` seconds."""
        if self._ended:
            return
        future = self.submit(last) if self._thread is not None and self._process == os.getpid() else None
        self._ended = True
        if future is not None:
            self._work.put(None)
            await asyncio.wait([future], timeout=patience)

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            work, done = item
            value: Any = None
            error: BaseException | None = None
            try:
                value = work()
            except BaseException as raised:  # noqa: BLE001 - it is raised again where somebody waits for it
                error = raised
            done(value, error)
            del item, work, done, value, error  # an idle thread keeps nothing alive


def _resolve(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return  # the waiter gave up
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
