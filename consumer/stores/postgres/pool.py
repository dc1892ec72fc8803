"""A few connections, made when they are needed, and calls on them that a caller's cancellation does not tear.

Smaller than the driver's own pool: a connection in doubt is thrown away instead of being reset, and there is no round
trip at a release.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from consumer.errors import Contended, StoreUnavailable
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.faults import mapped

__all__ = ["Pool"]

T = TypeVar("T")

CALL_TIMEOUT = 45.0
"""Seconds for a call, waiting for a connection included: above the server's own limit on a statement."""

CONTENDED_TRIES = 8
"""Deadlocks and lock time-outs (100 ms each) that a call goes through before it says that the store is unavailable."""


class Pool:
    """Connections of one kind.

    Args:
        connect: makes one.
        size: how many there may be at once.
        patience: seconds for a call; see `CALL_TIMEOUT`.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], size: int, *, patience: float = CALL_TIMEOUT
    ) -> None:
        self._connect = connect
        self._patience = patience
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._calls: set[asyncio.Task[object]] = set()

    async def acquire(self) -> Connection:
        """Return a connection that nobody else uses, waiting for one.

        Raises:
            StoreUnavailable: none can be had.
            SettingsError: none can ever be had.
        """
        await self._free.acquire()
        try:
            connection = None
            while self._idle and connection is None:
                # The youngest first: those that are not needed stay cold. A closed one was closed by the server.
                connection = self._idle.pop()
                connection = None if connection.is_closed() else connection
            if connection is None:
                connection = await self._connect()
        except BaseException:
            self._free.release()
            raise
        self._busy.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Give a connection back that is as good as new."""
        if connection in self._busy:
            self._busy.discard(connection)
            if not connection.is_closed():
                self._idle.append(connection)
            self._free.release()

    def discard(self, connection: Connection) -> None:
        """Give a connection back that cannot be trusted: it is cut, and the server undoes what it was doing."""
        connection.terminate()
        self.release(connection)

    async def call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do `work` on a connection; a cancelled caller leaves, the work goes on to its end.

        `work` is done again after a deadlock or a lock time-out: it must leave nothing behind when it fails.

        Raises:
            StoreUnavailable: nobody answers; it may have happened.
        """
        task = asyncio.create_task(self._persist(work))
        self._calls.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait a moment for calls under way, then cut every connection. Never raises."""
        if self._calls:
            await asyncio.wait(list(self._calls), timeout=2)
        for connection in self._idle:
            try:
                async with asyncio.timeout(2):
                    await connection.close()
            except Exception:  # noqa: BLE001 - it is going away; how does not matter
                connection.terminate()
        for connection in self._busy:
            connection.terminate()
        self._idle.clear()

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; then nobody is left to be told

    async def _persist(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        reason = ""
        for _ in range(CONTENDED_TRIES):
            try:
                return await self._once(work)
            except Contended as contended:
                reason = str(contended)
                # Two that met in a deadlock must not meet again in step.
                await asyncio.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - no secret
        raise StoreUnavailable(f"PostgreSQL: {reason}, {CONTENDED_TRIES} times over")

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                connection = await self.acquire()
                try:
                    with mapped():
                        result = await work(connection)
                except Contended:
                    self.release(connection)
                    raise
                except BaseException:
                    self.discard(connection)
                    raise
        except TimeoutError:
            raise StoreUnavailable(f"PostgreSQL has not answered for {self._patience:.0f} s") from None
        self.release(connection)
        return result
