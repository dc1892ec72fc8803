"""The in-memory store: the shortest reading of the contract, for tests and for looking at. It keeps nothing.

Every change of a state goes through the table in `rules.states`. No verb awaits anything, so each is one commit. Handles
that share one `MemoryData` play several processes on one database; real processes cannot share it.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.ports.inbox import Groups
from consumer.ports.store import Capabilities
from consumer.stores.memory.arrivals import MemoryArrivals
from consumer.stores.memory.data import MemoryData
from consumer.stores.memory.inbox import MemoryInbox
from consumer.stores.memory.operator import MemoryDoubts, MemoryOperator
from consumer.stores.memory.outbox import MemoryOutbox
from consumer.stores.memory.workers import MemoryWorkers

__all__ = ["CAPABILITIES", "MemoryData", "MemoryStore"]

CAPABILITIES = Capabilities(
    transactions=False,
    durable=False,
    shared=False,
    fifo_outbox=True,
    lanes=True,
    weakness="the in-memory store forgets everything when its process ends",
)


class MemoryStore:
    """A handle on data in memory; `ports.store.Store`.

    Args:
        app: the app that this handle works for.
        data: shared with other handles; by default it is this handle's own.
    """

    def __init__(self, app: str, data: MemoryData | None = None) -> None:
        self.data = MemoryData() if data is None else data
        self.capabilities = CAPABILITIES
        self.inbox = MemoryInbox(self.data, app)
        self.groups: Groups | None = None
        self.arrivals = MemoryArrivals(self.data, app)
        self.workers = MemoryWorkers(self.data, app)
        self.outbox = MemoryOutbox(self.data, app)
        self.operator = MemoryOperator(self.data)
        self.doubts = MemoryDoubts(self.data, app)

    async def open(self, *, check: bool = True) -> None:
        """There is nothing to connect to, and nothing to check."""

    async def close(self) -> None:
        """There is nothing to let go of; the data lives as long as somebody refers to it."""

    async def migrate(self, own: Sequence[str] = (), *, dry_run: bool = False) -> list[str]:  # noqa: ARG002
        """There are no tables, and nowhere to run `own`: the dialect of this store is empty."""
        return []
