"""The in-memory store against the contract suite."""

from __future__ import annotations

import pytest

from consumer.ports.store import Store
from consumer.stores.memory import CAPABILITIES, MemoryData, MemoryStore
from consumer.testing.contract import cases

_LONG_AGO = 1e6


class MemoryBackend:
    """Handles that share one `MemoryData` play several processes."""

    def __init__(self) -> None:
        self.capabilities = CAPABILITIES
        self.data = MemoryData()

    async def open(self, app: str = "shop") -> Store:
        store = MemoryStore(app, self.data)
        await store.migrate()
        await store.open()
        return store

    async def kill(self, store: Store, worker: int) -> None:
        row = self.data.workers[worker]
        row.beat_at = self.data.now() - row.ttl - 1

    async def hasten(self) -> None:
        for row in self.data.rows.values():
            if row.due_at is not None:
                row.due_at -= _LONG_AGO
        for out in self.data.outbox.values():
            out.due_at -= _LONG_AGO

    async def age(self, seconds: float) -> None:
        for row in self.data.rows.values():
            row.created_at -= seconds

    async def close(self) -> None:
        self.data = MemoryData()


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
