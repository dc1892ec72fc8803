"""What people ask of the store."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from consumer.entry import Entry, State, StoryLine
from consumer.ports.operator import Backlog, Count, Resolution
from consumer.ports.outbox import Pending
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.doubts import resolve
from consumer.stores.sqlite.lanes import HEAD, join
from consumer.stores.sqlite.outbox import COLUMNS, pending
from consumer.stores.sqlite.rows import readable, reserve, tell

__all__ = ["SqliteOperator"]

_ENTRY = """select id, app, tenant, handler, key, state, attempts, token, created_at, due_at, worker, reason,
    {result}, message, keyed, lane, case when place is not null then {head} end from consumer_inbox e"""


class SqliteOperator:
    """`ports.operator.Operator`. Counting, and looking for a raw key, read the whole inbox.

    Args:
        writes: the connection for what changes something.
        reads: the connection for the rest.
    """

    def __init__(self, writes: Link, reads: Link) -> None:
        self._writes = writes
        self._reads = reads

    async def apps(self) -> list[str]:
        """The apps in this store; see `ports.operator.Operator.apps`."""
        return await self._reads.read(_apps)

    async def find(
        self, key: bytes, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[Entry]:
        """All entries of a key or an identity; see `ports.operator.Operator.find`."""
        return await self._reads.read(_find, key, {"app": app, "handler": handler, "tenant": tenant})

    async def entries(
        self,
        *,
        app: str | None = None,
        states: Sequence[State] = (),
        handler: str | None = None,
        tenant: str | None = None,
        lane: bytes | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Entries, oldest first; see `ports.operator.Operator.entries`."""
        chosen = {"app": app, "handler": handler, "tenant": tenant}
        return await self._reads.read(_entries, chosen, states, lane, limit)

    async def resolve(self, resolution: Resolution) -> bool:
        """As `Doubts.resolve`."""
        return await self._writes.write(resolve, resolution)

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        """Dead to waiting; see `ports.operator.Operator.redrive`."""
        return await self._writes.write(_redrive, identity, token, reason)

    async def purge(self, *, app: str, handler: str, older_than: float, limit: int) -> int:
        """Forget old done entries; see `ports.operator.Operator.purge`."""
        return await self._writes.write(_purge, app, handler, older_than, limit)

    async def stats(self, *, app: str | None = None) -> list[Count]:
        """Counts by app, handler and state; see `ports.operator.Operator.stats`."""
        return await self._reads.read(_stats, app)

    async def declare(self, app: str, handlers: dict[str, str]) -> dict[str, str]:
        """Remember the handlers of an app; see `ports.operator.Operator.declare`."""
        return await self._writes.write(_declare, app, handlers)

    async def outgoing(
        self, *, app: str | None = None, parked: bool | None = None, limit: int | None = None
    ) -> list[Pending]:
        """Messages in the outbox; see `ports.operator.Operator.outgoing`."""
        return await self._reads.read(_outgoing, app, parked, limit)

    async def backlog(self) -> Backlog:
        """Count the outbox; see `ports.operator.Operator.backlog`."""
        return await self._reads.read(_backlog)

    async def unpark(self, seqs: Sequence[int]) -> int:
        """Let parked messages go on; see `ports.operator.Operator.unpark`."""
        return await self._writes.write(_unpark, seqs) if seqs else 0


def _apps(connection: sqlite3.Connection) -> list[str]:
    found = {
        app
        for (app,) in connection.execute(
            "select app from consumer_workers union select app from consumer_handlers"
        )
    }
    # From one app to the next in the index: DISTINCT would read all of it.
    after = "select min(app) from consumer_inbox where app > ?"
    app = connection.execute(after, ("",)).fetchone()[0]
    while app is not None:
        found.add(app)
        app = connection.execute(after, (app,)).fetchone()[0]
    return sorted(found)


def _where(chosen: dict[str, str | None]) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return " and ".join(["true", *[f"{name} = :{name}" for name in values]]), values


def _find(connection: sqlite3.Connection, key: bytes, chosen: dict[str, str | None]) -> list[Entry]:
    where, values = _where(chosen)
    # Two queries, not one with OR: an identity is found by its index.
    query = f"{_ENTRY.format(result='result', head=HEAD.format(of='e'))} where {where} and"
    found = connection.execute(
        f"{query} key = :key order by created_at, seq", {**values, "key": key}
    ).fetchall()
    identity = _identity(key)
    if identity is not None:
        found += connection.execute(
            f"{query} id = :id and key <> :key", {**values, "id": identity, "key": key}
        )
    return [msgspec.structs.replace(_entry(row), story=_story(connection, row[0])) for row in found]


def _entries(
    connection: sqlite3.Connection,
    chosen: dict[str, str | None],
    states: Sequence[State],
    lane: bytes | None,
    limit: int | None,
) -> list[Entry]:
    where, values = _where(chosen)
    if lane is not None:
        where, values = f"{where} and lane = :lane", values | {"lane": lane}
    if states:
        where += f" and state in ({', '.join(str(int(state)) for state in states)})"
    query = f"{_ENTRY.format(result='null', head=HEAD.format(of='e'))} where {where} order by created_at, seq limit :limit"
    rows = connection.execute(query, {**values, "limit": -1 if limit is None else limit})
    return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    identity, app, tenant, handler, key, state, *others, message, keyed, lane, head = row
    attempts, token, created_at, due_at, worker, reason, result = others
    return Entry(
        identity,
        app,
        tenant,
        handler,
        key,
        State(state),
        attempts,
        token,
        created_at,
        due_at,
        worker,
        reason,
        result,
        message,
        bool(keyed),
        lane=lane,
        behind=None if head == identity else head,
    )


def _story(connection: sqlite3.Connection, identity: bytes) -> tuple[StoryLine, ...]:
    query = "select at, event, token, attempt, reason from consumer_story where entry = ? order by seq"
    return tuple(StoryLine(*line) for line in connection.execute(query, (identity,)))


def _identity(key: bytes) -> bytes | None:
    """Return the identity that a key of 32 hexadecimal digits (with or without a uuid's dashes) spells."""
    try:
        return uuid.UUID(key.decode("ascii")).bytes
    except ValueError:
        return None


def _redrive(connection: sqlite3.Connection, identity: bytes, token: int, reason: str) -> bool:
    row = connection.execute(
        f"select attempts from consumer_inbox where id = ? and state = {State.DEAD:d} and token = ?",
        (identity, token),
    ).fetchone()
    if row is None:
        return False
    at = now()
    tell(connection, identity, StoryLine(at, "redrive", token, row[0], reason))
    connection.execute(
        f"""update consumer_inbox set state = {State.WAITING:d}, attempts = 0, token = ?, due_at = ?,
            reason = ?, tries = 0 where id = ?""",
        (token := reserve(connection, 1), at, readable(reason), identity),
    )
    join(connection, identity, token, at)
    return True


def _purge(connection: sqlite3.Connection, app: str, handler: str, older_than: float, limit: int) -> int:
    old = connection.execute(
        f"""select seq, id from consumer_inbox
            where app = ? and handler = ? and created_at < ? and state = {State.DONE:d}
            order by created_at limit ?""",
        (app, handler, now() - older_than, limit),
    ).fetchall()
    connection.executemany("delete from consumer_story where entry = ?", [(identity,) for _, identity in old])
    connection.executemany("delete from consumer_inbox where seq = ?", [(seq,) for seq, _ in old])
    return len(old)


def _stats(connection: sqlite3.Connection, app: str | None) -> list[Count]:
    where, values = _where({"app": app})
    rows = connection.execute(
        f"""select app, handler, state, count(*), min(created_at),
                count(*) filter (where place is not null and state in ({State.RECEIVED:d}, {State.WAITING:d})
                    and due_at is null)
            from consumer_inbox where {where}
            group by app, handler, state order by app, handler, state""",
        values,
    )
    return [Count(name, handler, State(state), *figures) for name, handler, state, *figures in rows]


def _declare(connection: sqlite3.Connection, app: str, handlers: dict[str, str]) -> dict[str, str]:
    known = dict(
        connection.execute("select name, mode from consumer_handlers where app = ?", (app,)).fetchall()
    )
    if known != handlers:
        connection.execute("delete from consumer_handlers where app = ?", (app,))
        connection.executemany(
            "insert into consumer_handlers (app, name, mode) values (?, ?, ?)",
            [(app, name, mode) for name, mode in handlers.items()],
        )
    return known


def _outgoing(
    connection: sqlite3.Connection, app: str | None, parked: bool | None, limit: int | None
) -> list[Pending]:
    which = {None: "true", True: "o.parked is not null", False: "o.parked is null"}[parked]
    rows = connection.execute(
        f"select {COLUMNS} from consumer_outbox o where {which} and coalesce(o.app = ?, true) order by o.seq limit ?",
        (app, -1 if limit is None else limit),
    )
    return [pending(row) for row in rows]


def _backlog(connection: sqlite3.Connection) -> Backlog:
    [row] = connection.execute(
        """select count(*) - count(parked), count(parked), min(created_at) filter (where parked is null)
           from consumer_outbox"""
    )
    return Backlog(*row)


def _unpark(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    update = "update consumer_outbox set parked = null where seq = ? and parked is not null"
    return connection.executemany(update, [(seq,) for seq in seqs]).rowcount
