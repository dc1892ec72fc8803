"""Outgoing messages on their way to a sink."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from consumer.message import Outgoing
from consumer.ports.outbox import Pending
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.rows import OPEN, headers_of, readable

__all__ = ["COLUMNS", "SqliteOutbox", "pending"]

COLUMNS = "o.seq, o.id, o.topic, o.value, o.headers, o.ordering_key, o.parked, o.created_at, o.app"
"""What `pending` makes a message of; the outbox is called `o`."""

# Parked and not yet due messages are few, and each has its own small index; whoever comes later with the same
# topic and ordering key is left out.
_TAKE = f"""with stopped (topic, ordering_key, seq) as materialized (
        select topic, ordering_key, min(seq) from (
            select topic, ordering_key, seq from consumer_outbox
                where app = :app and parked is not null and ordering_key is not null
            union all
            select topic, ordering_key, seq from consumer_outbox
                where app = :app and due_at is not null and due_at > :at and ordering_key is not null
        ) group by topic, ordering_key
    )
    select {COLUMNS} from consumer_outbox o
    where o.app = :app and o.parked is null and (o.due_at is null or o.due_at <= :at)
        and not exists (select 1 from stopped s
            where s.topic = o.topic and s.ordering_key = o.ordering_key and s.seq < o.seq)
    order by o.seq limit :limit"""


class SqliteOutbox:
    """`ports.outbox.Outbox`. The whole outbox of an app is one shard.

    Args:
        writes: the connection for what changes something.
        reads: the connection that reads the messages.
        app: this handle's.
    """

    def __init__(self, writes: Link, reads: Link, app: str) -> None:
        self._writes = writes
        self._reads = reads
        self._app = app

    async def take(self, worker: int, limit: int) -> list[Pending]:
        """The oldest unsent messages; see `ports.outbox.Outbox.take`."""
        free, found = await self._reads.read(_take, self._app, worker, limit)
        if free and await self._writes.write(_own, self._app, worker):
            _, found = await self._reads.read(_take, self._app, worker, limit)
        return found

    async def sent(self, seqs: Sequence[int]) -> None:
        """Forget these; see `ports.outbox.Outbox.sent`."""
        if seqs:
            delete = "delete from consumer_outbox where seq = ?"
            await self._writes.write(_many, delete, [(seq,) for seq in seqs])

    async def park(self, parked: Sequence[tuple[int, str]]) -> None:
        """Set messages aside; see `ports.outbox.Outbox.park`."""
        if parked:
            update = "update consumer_outbox set parked = ? where seq = ?"
            await self._writes.write(_many, update, [(readable(reason), seq) for seq, reason in parked])


def pending(row: tuple[Any, ...]) -> Pending:
    """Return a message of the outbox, of a row of `COLUMNS`."""
    seq, identity, topic, value, headers, ordering_key, parked, created_at, app = row
    outgoing = Outgoing(identity, topic, value, headers_of(headers), ordering_key)
    return Pending(seq, outgoing, parked, created_at, app)


def _take(connection: sqlite3.Connection, app: str, worker: int, limit: int) -> tuple[bool, list[Pending]]:
    """Return whether the shard is free, and the messages where it is this worker's."""
    owner = _owner(connection, app)
    if owner != worker:
        return owner is None and _is_open(connection, worker), []
    values = {"app": app, "at": now(), "limit": limit}
    return False, [pending(row) for row in connection.execute(_TAKE, values)]


def _owner(connection: sqlite3.Connection, app: str) -> int | None:
    """Return the open worker that owns the shard."""
    row = connection.execute("select worker from consumer_relay where app = ?", (app,)).fetchone()
    return int(row[0]) if row is not None and _is_open(connection, row[0]) else None


def _own(connection: sqlite3.Connection, app: str, worker: int) -> bool:
    """Make the shard this worker's, unless somebody was faster."""
    if _owner(connection, app) not in {None, worker} or not _is_open(connection, worker):
        return False
    connection.execute(
        "insert into consumer_relay (app, worker) values (?, ?)"
        " on conflict (app) do update set worker = excluded.worker",
        (app, worker),
    )
    return True


def _is_open(connection: sqlite3.Connection, worker: int) -> bool:
    query = "select 1 from consumer_workers where id = ? and state = ?"
    return connection.execute(query, (worker, OPEN)).fetchone() is not None


def _many(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    connection.executemany(sql, rows)
