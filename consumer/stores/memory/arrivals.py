"""Landing and what is due, in memory."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence

from consumer.entry import Landed, Landing, State, Taken
from consumer.stores.memory.data import FINISHED, MemoryData, Row, behind, due_rows, land, start

__all__ = ["MemoryArrivals", "taken"]


class MemoryArrivals:
    """`ports.arrivals.Arrivals`.

    Args:
        data: what is shared with the other handles.
        app: this handle's.
    """

    def __init__(self, data: MemoryData, app: str) -> None:
        self._data = data
        self._app = app

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably; see `ports.arrivals.Arrivals.land`."""
        return [land(self._data, self._app, landing) for landing in landings]

    async def due(self, worker: int, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Claim what is due; see `ports.arrivals.Arrivals.due`."""
        data = self._data
        data.refuse_closed(worker)
        ready = (
            row
            for row in data.rows.values()
            if row.app == self._app
            and row.handler in handlers
            and row.state in {State.RECEIVED, State.WAITING}
            and behind(data, row) is None
        )
        mine = list(itertools.islice(due_rows(ready, data.now()), limit))
        for row in mine:
            start(data, row, worker)
        return [taken(row) for row in mine]

    async def in_lanes(self, handlers: Sequence[str]) -> dict[str, int]:
        """Count what is in lanes; see `ports.arrivals.Arrivals.in_lanes`."""
        return collections.Counter(
            row.handler
            for lane in self._data.lanes.values()
            for row in lane
            if row.app == self._app and row.handler in handlers and row.state not in FINISHED
        )


def taken(row: Row) -> Taken:
    """Return the entry as a taker gets it."""
    return Taken(
        row.identity,
        row.tenant,
        row.handler,
        row.key,
        row.fingerprint,
        row.message or b"",
        row.token,
        row.attempts,
        row.keyed,
        row.lane,
    )
