"""A connection, its thread and its writer lock: one hop, one transaction per verb."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from consumer.errors import SettingsError, StoreUnavailable
from consumer.stores.sqlite.faults import fault
from consumer.stores.sqlite.place import Place
from consumer.stores.sqlite.thread import Hop, Ticket
from consumer.stores.sqlite.writer import WriterLock

__all__ = ["Link", "now"]

P = ParamSpec("P")
T = TypeVar("T")

_STRANGERS = 5.0
"""Seconds to wait for programs that do not know the writer lock: our own never meet at SQLite's."""

_STATEMENTS = 256
"""Prepared statements kept per connection: more than this package has, the rest is for handlers."""

_PRAGMAS = (
    "pragma synchronous = full",  # NORMAL may lose the last commits, acknowledged, at a power cut
    "pragma foreign_keys = on",  # the gate is a foreign key
    "pragma journal_size_limit = 67108864",  # a journal that a long read has made long becomes short again
    "pragma temp_store = memory",
)

_CLOSING = 5.0
"""Seconds to wait for a connection's last work; after that its thread is left behind."""


def now() -> float:
    """Return the store's clock, in seconds since 1970: the machine's, for an SQLite file has one machine."""
    return time.time()


class Link:
    """One connection, made when it is first used, in a thread of its own.

    Args:
        place: the files.
        name: for the thread.
        patience: seconds to wait for the other writers of the file before the store counts as unavailable.
        reads_only: SQLite refuses every change on this connection.
    """

    def __init__(self, place: Place, name: str, patience: float, *, reads_only: bool = False) -> None:
        self.place = place
        self.patience = patience
        self._reads_only = reads_only
        self._hop = Hop(name)
        self._lock = WriterLock(place.writer)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    # ------------------------------------------------------------------------------------------- on the loop

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do `work(connection, ...)` on one snapshot of the data. Waits for no writer.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        return await self._hop.run(self._read, lambda connection: work(connection, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do `work(connection, ...)` in one transaction of the only writer, and commit.

        Whatever `work` raises undoes all of it. A cancelled caller does not: the commit still comes.

        Raises:
            StoreUnavailable: others wrote for longer than `patience` (nothing has happened), or the file
            failed.
        """
        return await asyncio.shield(
            self._queue(Ticket(), lambda: self._commit(lambda connection: work(connection, *args, **kwargs)))
        )

    async def begin(self) -> sqlite3.Connection:
        """Become the writer, begin a transaction and leave it open; `commit` or `rollback` in `run` end it.

        A caller that is cancelled while it waits holds nothing afterwards.

        Raises:
            StoreUnavailable: as `write`.
        """
        ticket = Ticket()
        try:
            return await asyncio.shield(self._queue(ticket, self.connection))
        except asyncio.CancelledError:
            if not ticket.use():
                with contextlib.suppress(StoreUnavailable):  # closed meanwhile: undone with that
                    self._hop.submit(self.undo)  # begun, or about to be: this comes after it in the thread
            raise

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work(...)` in the connection's thread, with no transaction of its own."""
        return await self._hop.run(work, *args, **kwargs)

    async def close(self) -> None:
        """Undo what is open, let go of the file, end the thread. Never raises."""
        await self._hop.end(self.drop, _CLOSING)

    # ----------------------------------------------------------------------------------------- in the thread

    def connection(self, *, create: bool = False) -> sqlite3.Connection:
        """Return the connection, made now if need be.

        Raises:
            ConsumerError: the file cannot be opened; see `faults.fault`.
        """
        if self._connection is None:
            try:
                self._connection = self._connect(create=create)
            except sqlite3.Error as error:
                raise fault(error, self.place.shown, opening=True) from error
            except OSError as error:
                raise StoreUnavailable(f"{self.place.shown}: {error}") from error
        return self._connection

    def undo(self) -> None:
        """Roll back where a transaction is open, and stop being the writer. Never raises."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error:
            self.drop()  # a connection that cannot roll back cannot be trusted
        finally:
            self._lock.release()

    def release(self) -> None:
        """Stop being the writer: the transaction is over."""
        self._lock.release()

    def drop(self) -> None:
        """Close the connection, which undoes what is open; the next use makes another."""
        connection, self._connection, self._file = self._connection, None, None
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass  # nothing is left to be done about it
        finally:
            self._lock.close()

    def _queue(self, ticket: Ticket, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue `work` to run inside a transaction; give up after `patience` unless it has started."""

        def started() -> T:
            self._start(ticket)
            return work()

        future = self._hop.submit(started)

        def give_up() -> None:
            if not future.done() and ticket.use():
                future.set_exception(
                    StoreUnavailable(
                        f"{self.place.shown}: others were writing for {self.patience:g} s; nothing was done"
                    )
                )

        timer = asyncio.get_running_loop().call_later(self.patience, give_up)
        future.add_done_callback(lambda _: timer.cancel())
        return future

    def _start(self, ticket: Ticket) -> None:
        """Become the writer and begin."""
        try:
            self._lock.acquire()
            if not ticket.use():
                raise StoreUnavailable("nobody waits for this any more")  # and nobody reads this
            self._refuse_another_file()
            self.connection().execute("begin immediate")
        except sqlite3.Error as error:
            self.undo()
            raise fault(error, self.place.shown) from error
        except OSError as error:
            raise StoreUnavailable(f"{self.place.writer}: {error}") from error
        except BaseException:
            self.undo()
            raise

    def _commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self.connection()
        try:
            value = work(connection)
            connection.execute("commit")
        except sqlite3.Error as error:
            self.undo()
            raise fault(error, self.place.shown) from error
        except BaseException:
            self.undo()
            raise
        self._lock.release()
        return value

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._refuse_another_file()
            connection = self.connection()
            connection.execute("begin")
            value = work(connection)
            connection.execute("commit")
        except sqlite3.Error as error:
            self.undo()
            raise fault(error, self.place.shown) from error
        except BaseException:
            self.undo()
            raise
        return value

    def _refuse_another_file(self) -> None:
        """Refuse to go on with a file that was deleted or replaced: other processes see another one.

        Raises:
            StoreUnavailable: the connection is gone; the next use opens what is there then.
        """
        if self._file is not None and self._file != _inode(self.place.database):
            self.drop()
            raise StoreUnavailable(f"{self.place.shown}: the file was removed or replaced while it was open")

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        # Autocommit mode: every BEGIN and COMMIT is written out. The thread check is off because handlers may
        # use the raw connection (`Tx.driver`) on the loop's thread; SQLite itself is built for that.
        connection = sqlite3.connect(
            self.place.uri(create=create),
            uri=True,
            timeout=_STRANGERS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._file = _inode(self.place.database)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if self._reads_only:
            connection.execute("pragma query_only = on")
        elif _value(connection, "pragma journal_mode") != "wal":
            mine = not self._lock.held
            if mine:
                self._lock.acquire()
            try:
                mode = _value(connection, "pragma journal_mode = wal")
            finally:
                if mine:
                    self._lock.release()
            if mode != "wal":
                raise SettingsError(
                    f"{self.place.shown}: no write-ahead log is possible here (journal mode {mode})"
                )
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        if not _value(connection, "pragma foreign_keys"):
            raise SettingsError(
                "this SQLite was built without foreign keys: a handler's own COMMIT would not be seen"
            )


def _value(connection: sqlite3.Connection, sql: str) -> Any:
    return connection.execute(sql).fetchone()[0]


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino
