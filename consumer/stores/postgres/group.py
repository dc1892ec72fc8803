"""One transaction for the handlers of one group: `ports.inbox.Group`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from consumer.entry import Answer, Claim, Landing, Settle, Taken
from consumer.errors import CommitUnknown, GroupFault
from consumer.message import Outgoing
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.faults import DRIVER, group_fault, handler_fault, is_lost, one_line
from consumer.stores.postgres.group_entries import GroupEntries
from consumer.stores.postgres.landing import land, lanes_of
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.writes import send

__all__ = ["Ask", "PostgresGroup"]

T = TypeVar("T")

Ask = Callable[[str, "tuple[bytes, int] | None"], Awaitable[bool]]
"""Asks, on a new connection, whether the transaction with this id has committed (and its entry has this token)."""

_SEAL = "select consumer_seal($1)::text"
_ROLLBACK_TIMEOUT = 5.0
"""Seconds for a polite ROLLBACK; after it the connection is cut, which the server takes for one."""

_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})


class PostgresGroup:
    """`ports.inbox.Group`, in a transaction that has begun and whose gate is closed.

    Args:
        connection: nobody else's until `commit` or `rollback`.
        pool: where it goes back to.
        app: this handle's.
        gate: the number of the gate's row.
        lock: the lock time-out that handlers have.
        ask: see `Ask`.
    """

    def __init__(
        self, connection: Connection, pool: Pool, app: str, *, gate: int, lock: str, ask: Ask
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._app = app
        self._gate = gate
        self._ask = ask
        self._entries = GroupEntries(connection, app, lock)
        self._xid: str | None = None
        self._trusted = True
        self._over = False
        self._ending: asyncio.Task[None] | None = None

    @property
    def driver(self) -> Any:
        """The raw asyncpg connection; `transaction()` on it is a savepoint.

        Raises:
            GroupFault: the group is over: the connection may be another's by now (of a handler that was given up).
        """
        if self._over:
            raise GroupFault("the group is over")
        return self._connection

    async def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """Make entries done in this transaction; see `ports.inbox.Group.claim`."""
        return await self._own(lambda: self._entries.claim(claims))

    async def due(self, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Take what is due; see `ports.inbox.Group.due`."""
        return await self._own(lambda: self._entries.due(handlers, limit))

    async def take(self, identity: bytes, token: int) -> bool:
        """Make a running entry done; see `ports.inbox.Group.take`."""
        return await self._own(lambda: self._entries.take(identity, token))

    async def unclaim(self, identities: Sequence[bytes]) -> None:
        """Take back what was claimed; see `ports.inbox.Group.unclaim`."""
        await self._own(lambda: self._entries.unclaim(identities))

    async def settle(self, settles: Sequence[Settle]) -> None:
        """Settle what was claimed and has not returned; see `ports.inbox.Group.settle`."""
        await self._own(lambda: self._entries.settle(settles))

    async def execute(self, sql: str, args: Sequence[Any]) -> int:
        """Run a handler's statement; see `ports.inbox.Group.execute`. The driver's own exceptions reach the handler."""
        return _changed(await self._handlers(lambda: self._connection.execute(sql, *args)))

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Run a handler's query; see `ports.inbox.Group.fetch`."""
        return await self._handlers(lambda: self._connection.fetch(sql, *args))

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once per row, in order; see `ports.inbox.Group.executemany`."""
        await self._handlers(lambda: self._connection.executemany(sql, rows))

    async def fill(
        self,
        results: Sequence[tuple[bytes, bytes]],
        outgoing: Sequence[Outgoing],
        landings: Sequence[Landing],
    ) -> None:
        """Store results, outgoing messages and landings; see `ports.inbox.Group.fill`."""
        await self._own(lambda: self._fill(results, outgoing, landings))

    async def seal(self) -> None:
        """Open the gate, if this is still the transaction that closed it; see `ports.inbox.Group.seal`."""
        await self._own(self._entries.leave_lanes)
        self._xid = await self._own(lambda: self._connection.fetchval(_SEAL, self._gate))

    async def commit(self) -> None:
        """Commit; see `ports.inbox.Group.commit`. A caller that is cancelled leaves, the COMMIT goes on."""
        self._ending = asyncio.create_task(self._commit())
        await asyncio.shield(self._ending)

    async def outcome(self) -> bool:
        """Whether the transaction committed; see `ports.inbox.Group.outcome`."""
        if self._xid is None:
            return False  # the gate was never opened
        return await self._ask(self._xid, self._entries.witness)

    async def rollback(self) -> None:
        """Undo everything that is not committed. Never raises."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._rollback())
        # A COMMIT under way is waited for: what it says is not undone by anybody.
        await asyncio.wait([self._ending])
        if not self._ending.cancelled():
            self._ending.exception()
        if not self._over:
            self._ending = None
            await self.rollback()

    # --------------------------------------------------------------------------------------------------- inside

    async def _fill(
        self,
        results: Sequence[tuple[bytes, bytes]],
        outgoing: Sequence[Outgoing],
        landings: Sequence[Landing],
    ) -> None:
        if results:
            await self._entries.fill(results)
        if landings:
            await self._entries.limit_locks()
            if lanes := lanes_of(landings):
                await self._entries.lock_lanes(lanes)
            await land(self._connection, self._app, landings)
        await send(self._connection, self._app, outgoing)

    async def _own(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await a statement of ours: whatever its failure, the group cannot go on."""
        try:
            self._inside()
            result = await work()
        except GroupFault:
            raise
        except DRIVER as error:
            closed = self._connection.is_closed()
            self._trusted = self._trusted and not (closed or is_lost(error))
            raise group_fault(error, closed=closed) from error
        except BaseException:
            self._trusted = False
            raise
        self._inside()
        return result

    async def _handlers(self, work: Callable[[], Awaitable[T]]) -> T:
        """Await a statement of a handler: its failure is the handler's, unless it is the group's."""
        try:
            self._inside()
            result = await work()
        except DRIVER as error:
            closed = self._connection.is_closed()
            fault = handler_fault(error, closed=closed)
            if fault is not None:
                self._trusted = self._trusted and not (closed or is_lost(error))
                raise fault from error
            self._inside()
            raise
        except asyncio.CancelledError:
            self._trusted = False
            raise
        self._inside()
        return result

    def _inside(self) -> None:
        """Refuse to go on outside of a transaction, where every statement would be a commit of its own."""
        if self._over:
            raise GroupFault("the group is over")
        if not self._connection.is_closed() and not self._connection.is_in_transaction():
            self._trusted = False
            raise GroupFault("the transaction was ended by somebody else")

    # ------------------------------------------------------------------------------------------------------ end

    async def _commit(self) -> None:
        self._inside()
        try:
            answer = await self._connection.execute("commit")
        except DRIVER as error:
            if isinstance(error, asyncpg.PostgresError) and not is_lost(error):
                self._end(keep=True)
                raise group_fault(error, closed=False) from error
            self._end(keep=False)
            raise CommitUnknown(f"the reply to COMMIT was lost: {one_line(error)}") from error
        except BaseException:
            self._end(keep=False)
            raise
        self._end(keep=True)
        if answer != "COMMIT":
            raise GroupFault(
                f"the server answered {answer} to COMMIT: somebody swallowed the error of a statement"
            )

    async def _rollback(self) -> None:
        try:
            if not self._connection.is_closed():
                async with asyncio.timeout(_ROLLBACK_TIMEOUT):
                    # After a cancelled statement the driver first waits until the server has stopped it.
                    await self._connection.execute("rollback")
        except BaseException:  # noqa: BLE001 - the cut undoes it as well
            self._trusted = False
        finally:
            self._end(keep=self._trusted)

    def _end(self, *, keep: bool) -> None:
        if self._over:
            return
        self._over = True
        adopt(self._connection, None)
        if keep:
            self._pool.release(self._connection)
        else:
            self._pool.discard(self._connection)


def adopt(connection: Connection, transaction: Any) -> None:
    """Tell asyncpg of a transaction that we have begun: `transaction()` of a user makes a savepoint of it, not an error.

    There is no public way that costs no round trip; a test watches this one.
    """
    connection._top_xact = transaction  # type: ignore[attr-defined]  # noqa: SLF001


def _changed(tag: str) -> int:
    """Return the number of rows in a command tag (`INSERT 0 5`), 0 for commands that change none."""
    word, _, rest = tag.partition(" ")
    return int(rest.rpartition(" ")[2]) if word in _CHANGES and rest else 0
