"""Landing, and what is due."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from consumer.entry import Landed, Landing, State, Taken
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.rows import land, refuse_closed, reserve

__all__ = ["SqliteArrivals", "due_entries", "taken"]

_READY = f"state in ({State.RECEIVED:d}, {State.WAITING:d})"

_START = f"""update consumer_inbox set state = {State.RUNNING:d}, before = state, token = ?,
    attempts = attempts + 1, worker = ?, nonce = null, due_at = null
    where seq = ?"""

_TAKEN = """select id, tenant, handler, key, fingerprint, message, token, attempts, keyed, lane
    from consumer_inbox where seq = ?"""


class SqliteArrivals:
    """`ports.arrivals.Arrivals`.

    Args:
        writes: the connection for what changes something.
        reads: the connection that looks whether there is anything to change.
        app: this handle's.
    """

    def __init__(self, writes: Link, reads: Link, app: str) -> None:
        self._writes = writes
        self._reads = reads
        self._app = app

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably, in one commit; see `ports.arrivals.Arrivals.land`."""
        if not landings:
            return []
        return await self._writes.write(lambda connection: land(connection, self._app, landings, now()))

    async def due(self, worker: int, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Claim what is due; see `ports.arrivals.Arrivals.due`."""
        # This is polled: whoever finds nothing has not waited for the writer, nor made others wait.
        if not await self._reads.read(_any, self._app, worker, handlers, limit):
            return []
        return await self._writes.write(_due, self._app, worker, handlers, limit)

    async def in_lanes(self, handlers: Sequence[str]) -> dict[str, int]:
        """Count what is in lanes; see `ports.arrivals.Arrivals.in_lanes`."""
        return await self._reads.read(_in_lanes, self._app, handlers)


def due_entries(
    connection: sqlite3.Connection,
    app: str,
    handlers: Sequence[str],
    *,
    limit: int,
    at: float,
    which: str = _READY,
) -> list[int]:
    """Return the `seq` of up to `limit` entries that hold their bytes and are due, oldest due first.

    Args:
        connection: inside a transaction.
        app, handlers: whose.
        limit: at most so many.
        at: now.
        which: what else must hold, as SQL.
    """
    # One ordered walk of the index per handler: sorting all that is due would cost more the longer the
    # backlog is.
    found: list[tuple[float, int]] = []
    for handler in set(handlers):
        found += connection.execute(
            f"""select due_at, seq from consumer_inbox
                where app = ? and handler = ? and due_at is not null and due_at <= ?
                    and message is not null and {which}
                order by due_at, seq limit ?""",
            (app, handler, at, limit),
        )
    found.sort()
    return [seq for _, seq in found[:limit]]


def taken(connection: sqlite3.Connection, seq: int) -> Taken:
    """Return an entry as a taker gets it, after it was taken."""
    row = connection.execute(_TAKEN, (seq,)).fetchone()
    identity, tenant, handler, key, fingerprint, message, token, attempts, keyed, lane = row
    return Taken(identity, tenant, handler, key, fingerprint, message, token, attempts, bool(keyed), lane)


def _in_lanes(connection: sqlite3.Connection, app: str, handlers: Sequence[str]) -> dict[str, int]:
    query = "select count(*) from consumer_inbox where place is not null and app = ? and handler = ?"
    counts = {name: connection.execute(query, (app, name)).fetchone()[0] for name in handlers}
    return {name: count for name, count in counts.items() if count}


def _any(connection: sqlite3.Connection, app: str, worker: int, handlers: Sequence[str], limit: int) -> bool:
    refuse_closed(connection, app, worker)
    return limit > 0 and bool(due_entries(connection, app, handlers, limit=1, at=now()))


def _due(
    connection: sqlite3.Connection, app: str, worker: int, handlers: Sequence[str], limit: int
) -> list[Taken]:
    refuse_closed(connection, app, worker)
    seqs = due_entries(connection, app, handlers, limit=limit, at=now())
    first = reserve(connection, len(seqs))
    connection.executemany(_START, [(first + i, worker, seq) for i, seq in enumerate(seqs)])
    return [taken(connection, seq) for seq in seqs]
