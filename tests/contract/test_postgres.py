"""The Postgres store against the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from consumer.ports.store import Store
from consumer.stores.postgres import CAPABILITIES, PostgresStore
from consumer.testing.contract import cases


class PostgresBackend:
    """A database of its own; handles are as several processes would have them."""

    def __init__(self, url: str) -> None:
        self.capabilities = CAPABILITIES
        self.url = url
        self.handles: list[PostgresStore] = []

    async def open(self, app: str = "shop") -> Store:
        store = PostgresStore(self.url, app)
        self.handles.append(store)
        await store.migrate()
        await store.open()
        return store

    async def kill(self, store: Store, worker: int) -> None:
        # A lapse counts from the server's start too, which is a moment ago: only a time-to-live of 0 is over by now.
        await self.run(
            "update consumer_workers set beat_at = beat_at - interval '1 day', ttl = 0 where id = $1", worker
        )

    async def hasten(self) -> None:
        await self.run("update consumer_inbox set due_at = due_at - interval '11 days'")
        await self.run("update consumer_outbox set due_at = due_at - interval '11 days'")

    async def age(self, seconds: float) -> None:
        await self.run(
            "update consumer_inbox set created_at = created_at - make_interval(secs => $1)", seconds
        )

    async def run(self, sql: str, *args: object) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql, *args)
        finally:
            await connection.close()

    async def close(self) -> None:
        for store in self.handles:
            await store.close()


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    made = PostgresBackend(postgres_url)
    yield made
    await made.close()


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
