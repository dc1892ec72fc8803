"""A connection that is lent to SQLAlchemy for one attempt: it is looked at before every statement, and never closed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from consumer.declare.tx import Tx
from consumer.errors import ConsumerError, SettingsError
from consumer.stores.postgres.faults import DRIVER, handler_fault

__all__ = ["Lent"]

T = TypeVar("T")

STATEMENTS = 100
"""Prepared statements kept for a connection; as many as SQLAlchemy's own dialect keeps."""

_prepared: dict[Any, OrderedDict[str, Any]] = {}
"""By connection, which a group's pool keeps far longer than an attempt. A prepared statement holds its connection, so weak
keys would free nothing: closed ones are taken out when a new one comes."""


class Lent:
    """The raw connection of an attempt's transaction, with what SQLAlchemy's asyncpg dialect uses of one.

    The dialect's transaction is asyncpg's nested one: a savepoint. Once the attempt is over, or its transaction is another's,
    every statement is refused here; a `Lent` is never used again.

    Args:
        tx: the attempt's.

    Raises:
        SettingsError: the store is not PostgreSQL.
    """

    def __init__(self, tx: Tx) -> None:
        driver = tx.driver
        if type(driver).__module__.partition(".")[0] != "asyncpg":
            raise SettingsError(
                "consumer.sqlalchemy.session: the store is not PostgreSQL, and SQLAlchemy's asyncio has no dialect for its driver; "
                "use store=postgresql://…, or ask for tx: Tx"
            )
        self._tx = tx
        self._raw = driver
        self._known = _statements_of(driver)
        self._over = False

    def end(self) -> None:
        """Take the connection back: nothing is sent any more, and what closes a session finds nothing to do."""
        self._over = True

    def is_closed(self) -> bool:
        """It is taken back, or the connection is gone."""
        return self._over or self._raw.is_closed()

    async def prepare(self, sql: str, *, name: str | None = None) -> _Statement:  # noqa: ARG002 - the dialect's word
        """Return a prepared statement, perhaps one of an earlier attempt."""
        found = self._known.get(sql)
        if found is None:
            found = self._known[sql] = await self.run(lambda: self._raw.prepare(sql))
            if len(self._known) > STATEMENTS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(sql)
        return _Statement(self, found)

    async def executemany(self, sql: str, rows: Any) -> None:
        """Run a statement once per row."""
        await self.run(lambda: self._raw.executemany(sql, rows))

    async def fetchrow(self, sql: str) -> Any:
        """Run a query; the dialect asks whether the connection lives."""
        return await self.run(lambda: self._raw.fetchrow(sql))

    async def reload_schema_state(self) -> None:
        """Forget what the driver knows of types."""
        await self.run(self._raw.reload_schema_state)

    def transaction(self, **options: Any) -> _Savepoint:
        """Return a nested transaction."""
        return _Savepoint(self, self._raw.transaction(**options))

    async def set_type_codec(self, *_: Any, **__: Any) -> None:
        """Set none: the connection is the neighbours' too, who read JSON as text. `engine` has the types decode it."""

    async def close(self, timeout: float | None = None) -> None:
        """Leave it open: it is the group's."""

    def terminate(self) -> None:
        """Leave it open: it is the group's."""

    async def run(self, work: Callable[[], Awaitable[T]], *, flush: bool = True) -> T:
        """Await `work`, which sends one statement, after what `tx.write` has collected.

        Args:
            work: starts it.
            flush: send first what is collected; not before a rollback to a savepoint, which would undo it.

        Raises:
            ConsumerError: the attempt is over.
            GroupFault: the transaction is lost, as `Tx` says it too.
            Exception: the driver's own error.
        """
        self._check()
        if flush:
            await self._tx.flush()
        try:
            return await work()
        except DRIVER as error:
            # After a change of a table every statement on it is stale, and says so once each: one failure is enough.
            self._known.clear()
            fault = handler_fault(error, closed=self._raw.is_closed())
            if fault is None:
                raise
            raise fault from error

    def _check(self) -> None:
        if self._over:
            raise ConsumerError(
                "AsyncSession used after its handler returned: the transaction is not its own any more"
            )
        # Asked for its refusal: once the attempt, or its group, is over, the connection may be another's.
        _ = self._tx.driver
        if self._raw.is_closed():
            return  # the driver says it better
        if not self._raw.is_in_transaction():
            raise ConsumerError("AsyncSession used after its transaction was ended by somebody else")


class _Statement:
    """A prepared statement as the dialect uses it."""

    def __init__(self, lent: Lent, prepared: Any) -> None:
        self._lent = lent
        self._prepared = prepared
        self.get_attributes = prepared.get_attributes
        self.get_statusmsg = prepared.get_statusmsg

    async def fetch(self, *args: Any) -> Any:
        return await self._lent.run(lambda: self._prepared.fetch(*args))

    async def cursor(self, *args: Any) -> _Cursor:
        return _Cursor(self._lent, await self._lent.run(lambda: self._prepared.cursor(*args)))


class _Cursor:
    """A server-side cursor, of `AsyncSession.stream`."""

    def __init__(self, lent: Lent, cursor: Any) -> None:
        self._lent = lent
        self._cursor = cursor

    async def fetch(self, size: int) -> Any:
        return await self._lent.run(lambda: self._cursor.fetch(size))


class _Savepoint:
    """asyncpg's nested transaction, which the dialect takes for a whole one."""

    def __init__(self, lent: Lent, nested: Any) -> None:
        self._lent = lent
        self._nested = nested

    async def start(self) -> None:
        await self._lent.run(self._nested.start)

    async def commit(self) -> None:
        await self._lent.run(self._nested.commit)

    async def rollback(self) -> None:
        if not self._lent.is_closed():
            await self._lent.run(self._nested.rollback, flush=False)


def _statements_of(connection: Any) -> OrderedDict[str, Any]:
    known = _prepared.get(connection)
    if known is None:
        for closed in [each for each in _prepared if each.is_closed()]:
            del _prepared[closed]
        known = _prepared[connection] = OrderedDict()
    return known
