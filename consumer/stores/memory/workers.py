"""Signs of life in memory, and what becomes of the claims of a process that is gone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from consumer.entry import OnLapse, State
from consumer.ports.workers import Adopted
from consumer.rules.states import Event
from consumer.stores.memory.data import MemoryData, Row, WorkerRow, tell

__all__ = ["MemoryWorkers"]


class MemoryWorkers:
    """`ports.workers.Workers`. The store's start is not counted from: clock and data live and end together.

    Args:
        data: what is shared with the other handles.
        app: this handle's.
    """

    def __init__(self, data: MemoryData, app: str) -> None:
        self._data = data
        self._app = app

    async def open(self, ttl: float, about: str) -> int:
        """Make a worker; see `ports.workers.Workers.open`."""
        number = next(self._data.numbers)
        self._data.workers[number] = WorkerRow(self._app, ttl, about, beat_at=self._data.now())
        return number

    async def beat(self, worker: int) -> bool:
        """Renew the sign of life; see `ports.workers.Workers.beat`."""
        if self._data.closed(worker):
            return False
        row = self._data.workers[worker]
        row.beat_at = self._data.now()
        row.beats += 1
        return True

    async def close(self, worker: int) -> None:
        """End the worker cleanly; see `ports.workers.Workers.close`."""
        if not self._data.closed(worker):
            row = self._data.workers[worker]
            row.closed = row.clean = True

    async def others(self, worker: int) -> dict[int, float]:
        """The open workers but this one; see `ports.workers.Workers.others`."""
        return {
            number: float(row.beats)
            for number, row in self._data.workers.items()
            if row.app == self._app and not row.closed and number != worker
        }

    async def lapse(self) -> list[int]:
        """Close those that are silent; see `ports.workers.Workers.lapse`."""
        now = self._data.now()
        gone = []
        for number, row in self._data.workers.items():
            if row.app != self._app:
                continue
            if not row.closed and now - row.beat_at > row.ttl:
                row.closed = True
            if row.closed and not row.clean and any(self._running(number)):
                gone.append(number)
        return gone

    async def lapsed(self, since: int) -> set[int]:
        """Those that ended by a lapse; see `ports.workers.Workers.lapsed`."""
        return {
            number
            for number, row in self._data.workers.items()
            if row.app == self._app and row.closed and not row.clean and number >= since
        }

    async def adopt(self, limit: int, patience: Mapping[str, float] | None = None) -> list[Adopted]:
        """Apply `on_lapse`; see `ports.workers.Workers.adopt`."""
        closed = [number for number, row in self._data.workers.items() if row.app == self._app and row.closed]
        orphans = itertools.chain.from_iterable(self._running(number) for number in closed)
        return [self._lapse(row, patience or {}) for row in list(itertools.islice(orphans, limit))]

    async def claims(self, worker: int) -> list[tuple[bytes, int, str]]:
        """The running entries of a worker; see `ports.workers.Workers.claims`."""
        return [(row.identity, row.token, row.handler) for row in self._running(worker)]

    def _running(self, worker: int) -> list[Row]:
        return [
            row for row in self._data.rows.values() if row.state is State.RUNNING and row.worker == worker
        ]

    def _lapse(self, row: Row, patience: Mapping[str, float]) -> Adopted:
        now = self._data.now()
        if row.on_lapse is OnLapse.IN_DOUBT:
            aim = State.IN_DOUBT
        else:
            aim = State.DEAD if row.attempts >= row.budget else State.WAITING
        row.move(Event.LAPSE, aim)
        row.reason = "its worker lapsed"
        row.due_at = None if aim is State.DEAD else now
        if aim is State.IN_DOUBT:
            row.due_at = now + patience.get(row.handler, 0.0)
        row.asks = 0
        tell(row, now, "lapse", row.reason)
        return Adopted(row.identity, row.handler, row.key, row.state)
