"""What people and `reconcile` ask of the in-memory store."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from consumer.entry import Entry, State, Taken
from consumer.ports.operator import Backlog, Count, Resolution
from consumer.ports.outbox import Pending
from consumer.rules.states import Event
from consumer.stores.memory.arrivals import taken
from consumer.stores.memory.data import MemoryData, Row, behind, due_rows, join, land, send, tell

__all__ = ["MemoryDoubts", "MemoryOperator"]


class MemoryDoubts:
    """`ports.operator.Doubts`.

    Args:
        data: what is shared with the other handles.
        app: this handle's.
    """

    def __init__(self, data: MemoryData, app: str) -> None:
        self._data = data
        self._app = app

    async def ask(self, handlers: Sequence[str], limit: int, lease: float, tries: int) -> list[Taken]:
        """Take doubts to ask about; see `ports.operator.Doubts.ask`."""
        now = self._data.now()
        open_doubts = (
            row
            for row in self._data.rows.values()
            if row.app == self._app
            and row.handler in handlers
            and row.state is State.IN_DOUBT
            and row.asks < tries
        )
        mine = list(itertools.islice(due_rows(open_doubts, now), limit))
        for row in mine:
            row.due_at = now + lease
            row.asks += 1
        return [taken(row) for row in mine]

    async def resolve(self, resolution: Resolution) -> bool:
        """End a doubt; see `ports.operator.Doubts.resolve`."""
        return _resolve(self._data, resolution)


class MemoryOperator:
    """`ports.operator.Operator`.

    Args:
        data: what is shared with the other handles.
    """

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    async def apps(self) -> list[str]:
        """The apps in this store; see `ports.operator.Operator.apps`."""
        rows, workers = self._data.rows.values(), self._data.workers.values()
        return sorted({row.app for row in rows} | {row.app for row in workers} | set(self._data.handlers))

    async def find(
        self, key: bytes, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[Entry]:
        """All entries of a key or an identity; see `ports.operator.Operator.find`."""
        identity = _identity(key)
        return [
            row.seen(behind(self._data, row), whole=True)
            for row in self._chosen(app=app, handler=handler, tenant=tenant)
            if row.key == key or row.identity == identity
        ]

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
        rows = (row for row in self._chosen(app=app, handler=handler, tenant=tenant))
        chosen = [row for row in rows if (not states or row.state in states) and lane in {None, row.lane}]
        chosen.sort(key=lambda row: row.created_at)
        return [row.seen(behind(self._data, row), whole=False) for row in chosen[:limit]]

    async def resolve(self, resolution: Resolution) -> bool:
        """As `Doubts.resolve`."""
        return _resolve(self._data, resolution)

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        """Dead to waiting; see `ports.operator.Operator.redrive`."""
        row = self._data.rows.get(identity)
        if row is None or row.state is not State.DEAD or row.token != token:
            return False
        now = self._data.now()
        tell(row, now, "redrive", reason)
        row.move(Event.REDRIVE)
        row.attempts, row.token = 0, next(self._data.tokens)
        row.due_at, row.reason = now, reason
        join(self._data, row)
        return True

    async def purge(self, *, app: str, handler: str, older_than: float, limit: int) -> int:
        """Forget old done entries; see `ports.operator.Operator.purge`."""
        horizon = self._data.now() - older_than
        old = [
            row
            for row in self._chosen(app=app, handler=handler)
            if row.state is State.DONE and row.created_at < horizon
        ][:limit]
        for row in old:
            row.move(Event.PURGE)
            del self._data.rows[row.identity]
        return len(old)

    async def stats(self, *, app: str | None = None) -> list[Count]:
        """Counts by app, handler and state; see `ports.operator.Operator.stats`."""
        groups: dict[tuple[str, str, State], list[Row]] = {}
        for row in self._chosen(app=app):
            groups.setdefault((row.app, row.handler, row.state), []).append(row)
        return [
            Count(
                *group,
                len(rows),
                min(row.created_at for row in rows),
                sum(behind(self._data, row) is not None for row in rows),
            )
            for group, rows in sorted(groups.items())
        ]

    async def declare(self, app: str, handlers: dict[str, str]) -> dict[str, str]:
        """Remember the handlers of an app; see `ports.operator.Operator.declare`."""
        known = self._data.handlers.get(app, {})
        self._data.handlers[app] = dict(handlers)
        return known

    async def outgoing(
        self, *, app: str | None = None, parked: bool | None = None, limit: int | None = None
    ) -> list[Pending]:
        """Messages in the outbox; see `ports.operator.Operator.outgoing`."""
        rows = [row.pending for row in self._data.outbox.values()]
        return [
            row
            for row in rows
            if app in {None, row.app} and (parked is None or (row.parked is not None) == parked)
        ][:limit]

    async def backlog(self) -> Backlog:
        """Count the outbox; see `ports.operator.Operator.backlog`."""
        rows = [row.pending for row in self._data.outbox.values()]
        unsent = [row.created_at for row in rows if row.parked is None]
        return Backlog(len(unsent), len(rows) - len(unsent), min(unsent, default=None))

    async def unpark(self, seqs: Sequence[int]) -> int:
        """Let parked messages go on; see `ports.operator.Operator.unpark`."""
        rows = [
            row for seq in set(seqs) if (row := self._data.outbox.get(seq)) and row.pending.parked is not None
        ]
        for row in rows:
            row.pending = msgspec.structs.replace(row.pending, parked=None)
        return len(rows)

    def _chosen(
        self, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> Iterator[Row]:
        for row in self._data.rows.values():
            if app in {None, row.app} and handler in {None, row.handler} and tenant in {None, row.tenant}:
                yield row


def _resolve(data: MemoryData, resolution: Resolution) -> bool:
    row = data.rows.get(resolution.identity)
    if row is None or row.state is not State.IN_DOUBT or row.token != resolution.token:
        return False
    now = data.now()
    # The line belongs to the attempt that is resolved: by its token a settlement that comes too late is known.
    tell(row, now, "resolve", resolution.reason)
    row.move(Event.RESOLVE, resolution.to)
    row.token = next(data.tokens)
    row.reason = resolution.reason
    row.due_at = now if resolution.to is State.WAITING else None
    if resolution.to is State.DONE:
        row.result, row.message, row.reason = resolution.result, None, None
        send(data, row.app, resolution.outgoing)
        for landing in resolution.landings:
            land(data, row.app, landing)
    return True


def _identity(key: bytes) -> bytes | None:
    """Return the identity that a key of 32 hexadecimal digits (with or without a uuid's dashes) spells."""
    try:
        return uuid.UUID(key.decode("ascii")).bytes
    except ValueError:
        return None
