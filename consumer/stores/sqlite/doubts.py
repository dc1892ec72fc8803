"""Doubts: asking what became of an attempt, and ending a doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from consumer.entry import State, StoryLine, Taken
from consumer.ports.operator import Resolution
from consumer.rules.states import Event, after
from consumer.stores.sqlite.arrivals import due_entries, taken
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.lanes import leave
from consumer.stores.sqlite.rows import land, readable, reserve, send, tell

__all__ = ["SqliteDoubts", "resolve"]

_DONE = """update consumer_inbox set state = ?, token = ?, result = ?, message = null, reason = null,
    due_at = null where id = ?"""

_OTHER = "update consumer_inbox set state = ?, token = ?, reason = ?, due_at = ?, nonce = null where id = ?"


class SqliteDoubts:
    """`ports.operator.Doubts`.

    Args:
        writes: the connection for what changes something.
        reads: the connection that looks whether there is anything to ask.
        app: this handle's.
    """

    def __init__(self, writes: Link, reads: Link, app: str) -> None:
        self._writes = writes
        self._reads = reads
        self._app = app

    async def ask(self, handlers: Sequence[str], limit: int, lease: float, tries: int) -> list[Taken]:
        """Take doubts to ask about; see `ports.operator.Doubts.ask`."""
        if not await self._reads.read(_open, self._app, handlers, min(limit, 1), tries):
            return []
        return await self._writes.write(_ask, self._app, handlers, limit=limit, lease=lease, tries=tries)

    async def resolve(self, resolution: Resolution) -> bool:
        """End a doubt; see `ports.operator.Doubts.resolve`."""
        return await self._writes.write(resolve, resolution)


def _open(
    connection: sqlite3.Connection, app: str, handlers: Sequence[str], limit: int, tries: int
) -> list[int]:
    which = f"state = {State.IN_DOUBT:d} and tries < {int(tries)}"
    return due_entries(connection, app, handlers, limit=limit, at=now(), which=which)


def _ask(
    connection: sqlite3.Connection, app: str, handlers: Sequence[str], *, limit: int, lease: float, tries: int
) -> list[Taken]:
    seqs = _open(connection, app, handlers, limit, tries)
    again = now() + lease
    update = "update consumer_inbox set due_at = ?, tries = tries + 1 where seq = ?"
    connection.executemany(update, [(again, seq) for seq in seqs])
    return [taken(connection, seq) for seq in seqs]


def resolve(connection: sqlite3.Connection, resolution: Resolution) -> bool:
    """End a doubt inside a transaction; whether it was one, with this token."""
    after(State.IN_DOUBT, Event.RESOLVE, resolution.to)
    row = connection.execute(
        f"select app, attempts from consumer_inbox where id = ? and state = {State.IN_DOUBT:d} and token = ?",
        (resolution.identity, resolution.token),
    ).fetchone()
    if row is None:
        return False
    app, attempts = row
    at = now()
    # The line belongs to the attempt that is resolved: by its token a settlement that comes too late is
    # known.
    line = StoryLine(at, "resolve", resolution.token, attempts, resolution.reason)
    tell(connection, resolution.identity, line)
    token = reserve(connection, 1)
    if resolution.to is not State.WAITING:
        leave(connection, resolution.identity, at)
    if resolution.to is State.DONE:
        connection.execute(_DONE, (resolution.to, token, resolution.result, resolution.identity))
        send(connection, app, resolution.outgoing, at)
        land(connection, app, resolution.landings, at)
    else:
        due_at = at if resolution.to is State.WAITING else None
        connection.execute(
            _OTHER, (resolution.to, token, readable(resolution.reason), due_at, resolution.identity)
        )
    return True
