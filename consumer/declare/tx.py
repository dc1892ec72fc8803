"""`Tx`: a handler's way to the database, inside the transaction that commits its entry."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import groupby
from typing import Any, Protocol, cast

from consumer.errors import ConsumerError, GroupFault, StoreUnavailable, WriteFault

__all__ = ["Row", "Statements", "Tx", "Writes"]


class Row(Protocol):
    """A row of a result: by index, by column name, or unpacked. asyncpg's and sqlite3's rows are both."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return one value, by position (from 0) or by column name."""
        ...

    def __len__(self) -> int:
        """Return the number of columns."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the values in the order of the columns."""
        ...


class Statements(Protocol):
    """What `Tx` needs of an open transaction: the part of the port `Group` that runs a handler's statements."""

    @property
    def driver(self) -> Any:
        """The driver's raw connection."""
        ...

    async def execute(self, sql: str, args: Sequence[Any]) -> int:
        """Run one statement; return the number of rows it changed."""
        ...

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Run one statement; return its rows."""
        ...

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement once per row, in order."""
        ...


class Writes:
    """The statements that the handlers of one group have queued (`tx.write`), first in, first out."""

    __slots__ = ("_failed", "_queue")

    def __init__(self) -> None:
        self._queue: list[tuple[str, Sequence[Any]]] = []
        self._failed: WriteFault | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, sql: str, args: Sequence[Any]) -> None:
        """Queue one statement."""
        self._queue.append((sql, args))

    def drop(self) -> None:
        """Forget what is queued (a savepoint was rolled back)."""
        self._queue.clear()

    async def flush(self, group: Statements) -> None:
        """Send what is queued: order kept, equal neighbours as one `executemany`.

        Args:
            group: the open transaction.

        Raises:
            WriteFault: a statement failed, and which handler queued it is not known; the driver's error is its cause.
            GroupFault: the transaction is lost (a deadlock, a lock time-out), as the store said.
            StoreUnavailable: as the store said.
        """
        if self._failed is not None:
            # A neighbour may have swallowed it, and SQLite goes on after a failed statement: the group must not commit.
            raise self._failed
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        for sql, calls in groupby(queue, key=_sql_of):
            rows = [args for _, args in calls]
            try:
                if len(rows) == 1:
                    await group.execute(sql, rows[0])
                else:
                    await group.executemany(sql, rows)
            except (GroupFault, StoreUnavailable):
                raise
            except Exception as error:
                self._failed = WriteFault(f"a collected write failed: {_short(sql)}: {error}")
                raise self._failed from error


class Tx:
    """The database, inside the transaction of the group: what is written here commits together with the entry.

    `await` means that it has happened; `write` happens later, in order, at the latest before the commit. A COMMIT by the
    handler itself is refused here; one behind our back (`driver`) fails, and undoes the group.

    Args:
        group: the open transaction.
        writes: what the handlers of the group have queued.
    """

    __slots__ = ("_depth", "_group", "_over", "_writes")

    def __init__(self, group: Statements, writes: Writes) -> None:
        self._group = group
        self._writes = writes
        self._depth = 0
        self._over = False

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement now.

        Args:
            sql: one statement; `$1`, `$2`, … are the arguments, on every store.
            *args: its arguments, bound by the driver.

        Returns:
            How many rows it changed; 0 for statements that change none.

        Raises:
            ConsumerError: the handler has returned, or `sql` begins, ends or nests a transaction.
            WriteFault: a write that was queued earlier failed.
            Exception: the driver's own error; the transaction cannot go on after it (see `savepoint`).
        """
        self._check(sql)
        await self._writes.flush(self._group)
        return await self._group.execute(sql, args)

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement now and return its rows. Arguments and errors as for `execute`."""
        self._check(sql)
        await self._writes.flush(self._group)
        return cast("list[Row]", await self._group.fetch(sql, args))

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        """Run one statement now and return its first row, `None` where there is none. Otherwise as `fetch`."""
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    def write(self, sql: str, *args: Any) -> None:
        """Queue one statement: it is sent, in order, before the next `execute`, `fetch` or savepoint, or before the commit.

        Neighbours with the same text go out together, those of other handlers of the group too, which is several times
        faster than `execute`. Errors come when it is sent; there is no row count.

        Args:
            sql: as for `execute`.
            *args: as for `execute`; not copied, so do not change them afterwards.

        Raises:
            ConsumerError: as for `execute`.
        """
        self._check(sql)
        self._writes.add(sql, args)

    async def flush(self) -> None:
        """Send what is queued now.

        Raises:
            ConsumerError: the handler has returned.
            WriteFault: one of the queued writes failed.
        """
        self._usable()
        await self._writes.flush(self._group)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what happens inside, queued writes included, when it raises; the transaction goes on.

        The exception is raised again: catch it outside. Savepoints nest. Queued writes of the inside are sent at its end.

        Raises:
            ConsumerError: the handler has returned.
            WriteFault: a queued write failed: at the start one of before, at the end one of the inside (which is undone).
        """
        self._usable()
        await self._writes.flush(self._group)
        name = f"consumer_{self._depth}"
        await self._group.execute(f"SAVEPOINT {name}", ())
        self._depth += 1
        try:
            yield
            self._usable()
            await self._writes.flush(self._group)
        except BaseException:
            # also when cancelled: a time-out inside the handler may be caught outside the savepoint, and the handler goes on
            if not self._over:
                self._writes.drop()
                await self._group.execute(f"ROLLBACK TO SAVEPOINT {name}", ())
                await self._group.execute(f"RELEASE SAVEPOINT {name}", ())
            raise
        else:
            await self._group.execute(f"RELEASE SAVEPOINT {name}", ())
        finally:
            self._depth -= 1

    @property
    def driver(self) -> Any:
        """The driver's raw connection (for COPY and the like), inside the same transaction. Queued writes are not sent.

        Raises:
            ConsumerError: the handler has returned.
        """
        self._usable()
        return self._group.driver

    def revoke(self) -> None:
        """Take the database away: every later use raises. What is queued stays queued."""
        self._over = True

    def _usable(self) -> None:
        if self._over:
            raise ConsumerError("Tx used after its handler returned: the transaction is not its own any more")

    def _check(self, sql: str) -> None:
        if self._over:
            self._usable()
        word = _refused(sql)
        if word:
            raise ConsumerError(
                f"{word} is not a handler's to say: its transaction ends when it returns (done) or raises (rolled back); "
                "to undo a part use `async with tx.savepoint():`"
            )


_FIRST_WORDS = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*([a-z_]\w*)(?:\s+([a-z_]\w*))?", re.IGNORECASE | re.DOTALL
)
_REFUSED = frozenset({"ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"})


@lru_cache(maxsize=512)
def _refused(sql: str) -> str | None:
    """Return the word by which `sql` controls the transaction, or `None`. The gate stops what this does not see."""
    found = _FIRST_WORDS.match(sql)
    if found is None:
        return None
    first, second = found[1].upper(), (found[2] or "").upper()
    if first == "PREPARE" and second == "TRANSACTION":
        return "PREPARE TRANSACTION"
    return first if first in _REFUSED else None


def _sql_of(queued: tuple[str, Sequence[Any]]) -> str:
    return queued[0]


def _short(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 80 else f"{text[:79]}…"
