"""The SQLite store against the contract suite."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from consumer.ports.store import Store
from consumer.stores.sqlite import CAPABILITIES, SqliteStore
from consumer.testing.contract import cases

_LONG_AGO = 1e6


class SqliteBackend:
    """A file of its own; handles are as several processes of one host would have them."""

    def __init__(self, path: Path) -> None:
        self.capabilities = CAPABILITIES
        self.path = path
        self.handles: list[SqliteStore] = []

    async def open(self, app: str = "shop") -> Store:
        store = SqliteStore(str(self.path), app)
        self.handles.append(store)
        await store.migrate()
        await store.open()
        return store

    async def kill(self, store: Store, worker: int) -> None:
        assert isinstance(store, SqliteStore)
        store.workers.drop(worker)

    async def hasten(self) -> None:
        self.run("update consumer_inbox set due_at = due_at - ?", _LONG_AGO)
        self.run("update consumer_outbox set due_at = due_at - ?", _LONG_AGO)

    async def age(self, seconds: float) -> None:
        self.run("update consumer_inbox set created_at = created_at - ?", seconds)

    def run(self, sql: str, *args: object) -> None:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute(sql, args)

    async def close(self) -> None:
        for store in self.handles:
            await store.close()


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    made = SqliteBackend(tmp_path / "shop.db")
    yield made
    await made.close()


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
