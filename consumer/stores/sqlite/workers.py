"""Workers, and what becomes of the claims of a process that is gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from consumer.entry import OnLapse, State, StoryLine
from consumer.errors import StoreUnavailable
from consumer.ports.workers import Adopted
from consumer.stores.sqlite.connect import Link, now
from consumer.stores.sqlite.lanes import leave
from consumer.stores.sqlite.place import Place
from consumer.stores.sqlite.rows import OPEN, tell
from consumer.stores.sqlite.signs import Signs

__all__ = ["SqliteWorkers"]

_REASON = "its worker lapsed"

_ORPHANS = f"""select seq, id, handler, key, token, attempts, budget, on_lapse
    from consumer_inbox indexed by consumer_inbox_running
    where worker is not null and state = {State.RUNNING:d} and app = ?
        and worker not in (select id from consumer_workers where state = '{OPEN}')
    order by worker, seq limit ?"""

_LAPSE = """update consumer_inbox set state = ?, due_at = ?, reason = ?, worker = null, nonce = null,
    tries = 0 where seq = ?"""

_UNCLEAN = """select id from consumer_workers w where app = ? and state = 'unclean'
        and exists (select 1 from consumer_inbox i where i.worker = w.id)
    order by id"""


class SqliteWorkers:
    """`ports.workers.Workers`. A worker lives as long as its process holds a lock: no clock, no time-to-live.

    Args:
        writes: the connection for what changes something.
        reads: the connection for the rest; a beat waits for no writer.
        place: where the lock files are.
        app: this handle's.
    """

    def __init__(self, writes: Link, reads: Link, place: Place, app: str) -> None:
        self._writes = writes
        self._reads = reads
        self._signs = Signs(place.workers)
        self._app = app

    async def open(self, ttl: float, about: str) -> int:  # noqa: ARG002 - the lock needs no time-to-live
        """Make a worker; see `ports.workers.Workers.open`."""
        made: list[int] = []
        try:
            return await self._writes.write(self._open, about, made)
        except Exception:
            for number in made:  # its row is undone, and its number is given to the next worker
                self._signs.remove(number)
            raise

    async def beat(self, worker: int) -> bool:
        """Renew the sign of life; see `ports.workers.Workers.beat`."""
        if not await self._reads.read(_is_open, self._app, worker):
            self._signs.drop(worker)
            return False
        self._signs.beat(worker)
        return True

    async def close(self, worker: int) -> None:
        """End the worker cleanly; see `ports.workers.Workers.close`."""
        await self._writes.write(_close, self._app, [worker], "closed")
        self._signs.remove(worker)

    async def others(self, worker: int) -> dict[int, float]:
        """The open workers but this one; see `ports.workers.Workers.others`."""
        numbers = await self._reads.read(_open_workers, self._app)
        return {number: self._signs.beats(number) for number in numbers if number != worker}

    async def lapse(self) -> list[int]:
        """Close those whose process is gone; see `ports.workers.Workers.lapse`."""
        numbers = await self._reads.read(_open_workers, self._app)
        gone = [number for number in numbers if self._signs.take_over(number)]
        if gone:
            try:
                await self._writes.write(_close, self._app, gone, "unclean")
            except BaseException:
                for number in gone:
                    self._signs.drop(number)
                raise
            for number in gone:
                self._signs.remove(number)
        return await self._reads.read(_unclean, self._app)

    async def lapsed(self, since: int) -> set[int]:
        """Those that ended by a lapse; see `ports.workers.Workers.lapsed`."""
        return await self._reads.read(_lapsed, self._app, since)

    async def adopt(self, limit: int, patience: Mapping[str, float] | None = None) -> list[Adopted]:
        """Apply `on_lapse` to the entries of closed workers; see `ports.workers.Workers.adopt`."""
        if not await self._reads.read(_orphans, self._app, min(limit, 1)):
            return []
        return await self._writes.write(_adopt, self._app, limit, patience or {})

    async def claims(self, worker: int) -> list[tuple[bytes, int, str]]:
        """The running entries of a worker; see `ports.workers.Workers.claims`."""
        return await self._reads.read(_claims, worker)

    def drop(self, worker: int) -> None:
        """Let go of a worker's sign of life, as the death of its process would (for tests)."""
        self._signs.drop(worker)

    def drop_all(self) -> None:
        """Let go of all signs of life that this handle holds, as the death of its process would."""
        self._signs.drop_all()

    def _open(self, connection: sqlite3.Connection, about: str, made: list[int]) -> int:
        number = connection.execute(
            "insert into consumer_workers (app, about, opened_at, state) values (?, ?, ?, ?)",
            (self._app, about, now(), OPEN),
        ).lastrowid
        assert number is not None  # noqa: S101 - an INSERT that returned has a row
        try:
            # Before the commit: whoever sees the row finds the lock held.
            self._signs.make(number)
            made.append(number)
        except OSError as error:
            raise StoreUnavailable(f"the sign of life of worker {number} cannot be made: {error}") from error
        return number


def _is_open(connection: sqlite3.Connection, app: str, worker: int) -> bool:
    query = "select 1 from consumer_workers where id = ? and app = ? and state = ?"
    return connection.execute(query, (worker, app, OPEN)).fetchone() is not None


def _open_workers(connection: sqlite3.Connection, app: str) -> list[int]:
    query = "select id from consumer_workers where app = ? and state = ? order by id"
    return [number for (number,) in connection.execute(query, (app, OPEN))]


def _close(connection: sqlite3.Connection, app: str, workers: list[int], state: str) -> None:
    connection.executemany(
        "update consumer_workers set state = ? where id = ? and app = ? and state = ?",
        [(state, worker, app, OPEN) for worker in workers],
    )


def _unclean(connection: sqlite3.Connection, app: str) -> list[int]:
    return [number for (number,) in connection.execute(_UNCLEAN, (app,))]


def _lapsed(connection: sqlite3.Connection, app: str, since: int) -> set[int]:
    query = "select id from consumer_workers where id >= ? and app = ? and state = 'unclean'"
    return {number for (number,) in connection.execute(query, (since, app))}


def _orphans(
    connection: sqlite3.Connection, app: str, limit: int
) -> list[tuple[int, bytes, str, bytes, int, int, int, int]]:
    return connection.execute(_ORPHANS, (app, limit)).fetchall()


def _adopt(
    connection: sqlite3.Connection, app: str, limit: int, patience: Mapping[str, float]
) -> list[Adopted]:
    at = now()
    adopted = []
    for seq, identity, handler, key, token, attempts, budget, on_lapse in _orphans(connection, app, limit):
        due: float | None = at
        if on_lapse == OnLapse.IN_DOUBT:
            aim, due = State.IN_DOUBT, at + patience.get(handler, 0.0)
        elif attempts >= budget:
            aim, due = State.DEAD, None
        else:
            aim = State.WAITING
        connection.execute(_LAPSE, (aim, due, _REASON, seq))
        if aim is State.DEAD:
            leave(connection, identity, at)
        tell(connection, identity, StoryLine(at, "lapse", token, attempts, _REASON))
        adopted.append(Adopted(identity, handler, key, aim))
    return adopted


def _claims(connection: sqlite3.Connection, worker: int) -> list[tuple[bytes, int, str]]:
    query = f"""select id, token, handler from consumer_inbox
        where worker = ? and state = {State.RUNNING:d} order by seq"""
    return connection.execute(query, (worker,)).fetchall()
