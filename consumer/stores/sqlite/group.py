"""One transaction for the handlers of one group, on the connection that is the writer meanwhile.

Differences to a server. A failed statement is undone by itself and leaves the transaction usable: a handler
that swallows such an error and returns has returned. A deferred constraint is looked at by COMMIT, not by
`seal`. There is one writer, so no claim ever waits for another's key: `open` waits for the other writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from consumer.entry import Answer, Claim, Landing, Settle, Taken, Won
from consumer.errors import CommitUnknown, GroupFault, StoreUnavailable
from consumer.message import Outgoing
from consumer.stores.sqlite import group_entries as entries
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.faults import beneath_handler, code_of, fault
from consumer.stores.sqlite.values import bound

__all__ = ["SqliteGroup", "SqliteGroups"]

P = ParamSpec("P")
T = TypeVar("T")

_ENDERS = ("commit", "end")

_INTERRUPTS = 0.05
"""Seconds between the interrupts of one statement."""


class SqliteGroups:
    """`ports.inbox.Groups`: one at a time.

    Args:
        link: the connection for groups.
        app: this handle's.
    """

    def __init__(self, link: Link, app: str) -> None:
        self._link = link
        self._app = app
        self._lane = asyncio.Lock()

    @property
    def lanes(self) -> int:
        """One: the file has one writer."""
        return 1

    async def open(self) -> SqliteGroup:
        """Become the writer and begin; see `ports.inbox.Groups.open`."""
        try:
            async with asyncio.timeout(self._link.patience):
                await self._lane.acquire()
        except TimeoutError:
            shown = self._link.place.shown
            raise StoreUnavailable(
                f"{shown}: this process' group was open for {self._link.patience:g} s"
            ) from None
        try:
            connection = await self._link.begin()
        except BaseException:
            self._lane.release()
            raise
        return SqliteGroup(self._link, connection, self._app, self._lane.release)


class SqliteGroup:
    """`ports.inbox.Group`.

    Args:
        link: the connection for groups, the writer now.
        connection: its driver's connection, in a transaction.
        app: this handle's.
        over: called once, when the next group may be opened.
    """

    def __init__(
        self, link: Link, connection: sqlite3.Connection, app: str, over: Callable[[], None]
    ) -> None:
        self._link = link
        self._connection = connection
        self._app = app
        self._over: Callable[[], None] | None = over
        self._gate = False
        self._spoiled: str | None = None
        self._undo: entries.Undo = {}
        self._took: list[bytes] = []
        self._tokens: dict[bytes, int] = {}
        self._settled: dict[bytes, int] = {}

    @property
    def driver(self) -> sqlite3.Connection:
        """The raw `sqlite3.Connection`: it blocks the event loop; a COMMIT through it spoils the group.

        Raises:
            GroupFault: the group is over: the connection is the next one's.
        """
        if self._over is None:
            raise GroupFault("this group has ended")
        self._connection.set_trace_callback(self._watch)
        return self._connection

    async def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """Make the entries done; see `ports.inbox.Group.claim`."""
        answers = await self._inside(self._begun, entries.claim, self._app, claims, now(), self._undo)
        for claim, answer in zip(claims, answers, strict=True):
            if isinstance(answer, Won):
                self._tokens[claim.identity] = answer.token
        return answers

    async def due(self, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Take what is due and make it done; see `ports.inbox.Group.due`."""
        found = await self._inside(
            self._begun, entries.due, self._app, handlers, limit=limit, at=now(), undo=self._undo
        )
        self._tokens.update((entry.identity, entry.token) for entry in found)
        return found

    async def take(self, identity: bytes, token: int) -> bool:
        """Make a running entry done; see `ports.inbox.Group.take`."""
        taken = await self._inside(self._begun, entries.take, identity, token)
        if taken:
            self._tokens[identity] = token
            self._took.append(identity)
        return taken

    async def unclaim(self, identities: Sequence[bytes]) -> None:
        """Take back `claim` or `due` of some entries; see `ports.inbox.Group.unclaim`."""
        await self._inside(self._own, entries.unclaim, identities, self._undo)
        for identity in identities:
            self._tokens.pop(identity, None)

    async def settle(self, settles: Sequence[Settle]) -> None:
        """Settle what was claimed and has not returned; see `ports.inbox.Group.settle`."""
        await self._inside(self._own, entries.settle, self._app, settles, now(), self._undo)
        for one in settles:
            self._settled[one.identity] = self._tokens.pop(one.identity)

    async def execute(self, sql: str, args: Sequence[Any]) -> int:
        """Run a handler's statement; see `ports.inbox.Group.execute`. Its own errors come as the driver's."""
        return await self._statement(_execute, sql, bound(args))

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        """Run a handler's statement and return its rows as `sqlite3.Row`; see `ports.inbox.Group.fetch`."""
        return await self._statement(_fetch, sql, bound(args))

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a handler's statement once per row; see `ports.inbox.Group.executemany`."""
        if rows:
            await self._statement(_executemany, sql, [bound(row) for row in rows])

    async def fill(
        self,
        results: Sequence[tuple[bytes, bytes]],
        outgoing: Sequence[Outgoing],
        landings: Sequence[Landing],
    ) -> None:
        """Store results, insert outgoing messages, land; see `ports.inbox.Group.fill`."""
        await self._inside(
            self._own,
            entries.fill,
            self._app,
            results=results,
            outgoing=outgoing,
            landings=landings,
            at=now(),
        )

    async def seal(self) -> None:
        """Open the gate, if this is still the transaction that claimed; see `ports.inbox.Group.seal`."""
        ended = [
            *self._took,
            *(identity for identity, row in self._undo.items() if row and row[-1] is not None),
        ]
        if ended:  # else nothing of it was in a lane
            await self._inside(self._own, entries.leave_lanes, ended, now())
        await self._inside(self._own, self._open_gate)

    async def commit(self) -> None:
        """Commit, and give the connection back; see `ports.inbox.Group.commit`."""
        try:
            await self._inside(self._commit)
        finally:
            self._give_back()

    async def outcome(self) -> bool:
        """Whether the transaction committed, read on a new connection; see `ports.inbox.Group.outcome`."""
        witness = next(iter((self._tokens or self._settled).items()), None)
        if witness is None:
            return False
        # The group's own connection is the next group's by now: asking on it would undo what that one does.
        asked = Link(self._link.place, "sqlite-outcome", self._link.patience, reads_only=True)
        try:
            return await asked.read(entries.is_over, *witness)
        finally:
            await asked.close()

    async def rollback(self) -> None:
        """Undo everything and give the connection back; see `ports.inbox.Group.rollback`."""
        if self._over is None:
            return
        try:
            await self._link.run(self._end)
        except StoreUnavailable:
            pass  # the handle was closed, and with it this transaction
        finally:
            self._give_back()

    async def _statement(self, verb: Callable[[sqlite3.Connection, str, Any], T], sql: str, values: Any) -> T:
        ended = threading.Event()

        def work() -> T:
            try:
                return self._handlers(verb, sql, values)
            finally:
                ended.set()

        try:
            return await self._inside(work)
        except asyncio.CancelledError:
            # A time-out, or the end of the process: an endless statement would keep the writer's lock for ever. What
            # it had done is undone; so will be the group.
            self._interrupt(ended)
            raise

    def _interrupt(self, ended: threading.Event) -> None:
        """Interrupt a statement until it has ended: the thread may not have begun it, and then an interrupt is none."""
        if ended.is_set():
            return
        with contextlib.suppress(sqlite3.Error):
            self._connection.interrupt()
        asyncio.get_running_loop().call_later(_INTERRUPTS, self._interrupt, ended)

    async def _inside(self, how: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._over is None:
            raise GroupFault("this group has ended")
        return await self._link.run(how, *args, **kwargs)

    # ----------------------------------------------------------------------------------------- in the thread

    def _begun(
        self, verb: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do a verb that claims; the first of them closes the gate."""
        if not self._gate:
            self._own(_close_gate)
            self._gate = True
        return self._own(verb, *args, **kwargs)

    def _own(
        self, verb: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do a verb of ours: an error of the driver is nobody's statement, the store failed."""
        self._refuse_spoiled()
        try:
            return verb(self._connection, *args, **kwargs)
        except sqlite3.Error as error:
            raise fault(error, self._link.place.shown) from error

    def _handlers(self, verb: Callable[[sqlite3.Connection, str, Any], T], sql: str, values: Any) -> T:
        """Do a handler's statement: the driver's error is the handler's to see, unless the store failed."""
        self._refuse_spoiled()
        if sql.lstrip()[:7].lower().startswith(_ENDERS):
            self._spoiled = "a handler tried to commit"
        try:
            return verb(self._connection, sql, values)
        except sqlite3.Error as error:
            beneath = beneath_handler(error, self._link.place.shown)
            if beneath is None:
                raise
            raise beneath from error
        finally:
            if not self._connection.in_transaction:
                # A ROLLBACK, or an error that ends the transaction (ON CONFLICT ROLLBACK, a full disk).
                # Whatever came now would commit by itself.
                self._spoiled = self._spoiled or "the transaction was ended by a handler's statement"

    def _refuse_spoiled(self) -> None:
        if self._spoiled is None and not self._connection.in_transaction:
            self._spoiled = "the transaction was ended by somebody else"
        if self._spoiled is not None:
            raise GroupFault(self._spoiled)

    def _watch(self, statement: str) -> None:
        """Called by SQLite with every statement that is run, once the raw connection was handed out."""
        if statement.lstrip()[:7].lower().startswith(_ENDERS):
            self._spoiled = "a handler tried to commit"

    def _open_gate(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(None)
        if self._gate and connection.execute("delete from consumer_gate").rowcount != 1:
            raise GroupFault("this is not the transaction that claimed any more")

    def _commit(self) -> None:
        self._refuse_spoiled()
        try:
            self._connection.execute("commit")
        except sqlite3.IntegrityError as error:
            raise GroupFault(
                f"a deferred constraint does not hold, or the group was not sealed: {error}"
            ) from error
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_IOERR:
                # Written or not, the disk does not say: a new connection will read what is there.
                self._link.drop()
                raise CommitUnknown(f"{self._link.place.shown}: {error}") from error
            beneath = beneath_handler(error, self._link.place.shown)
            if isinstance(beneath, StoreUnavailable):
                raise beneath from error  # a full disk, say: nothing has happened, and it is no fault of the group
            raise GroupFault(f"{self._link.place.shown}: {error}") from error
        finally:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # it may be closed by now
            self._connection.set_trace_callback(None)
        self._link.undo()

    def _give_back(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()


def _close_gate(connection: sqlite3.Connection) -> None:
    connection.execute("insert into consumer_gate (id, nowhere) values (1, 1)")


def _execute(connection: sqlite3.Connection, sql: str, values: dict[str, Any]) -> int:
    before = connection.total_changes
    cursor = connection.execute(sql, values)
    if cursor.description is not None:
        cursor.fetchall()  # RETURNING: the statement ends, and is counted, with its last row
    if cursor.rowcount >= 0:
        return cursor.rowcount
    return connection.total_changes - before  # the driver counts no statement that begins with WITH


def _fetch(connection: sqlite3.Connection, sql: str, values: dict[str, Any]) -> list[Any]:
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    return cursor.execute(sql, values).fetchall()


def _executemany(connection: sqlite3.Connection, sql: str, rows: list[dict[str, Any]]) -> None:
    connection.executemany(sql, rows)
