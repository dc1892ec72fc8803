"""The Postgres store against the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from consumer.ports.store import Store
from consumer.stores.postgres import CAPABILITIES, PostgresStore
from consumer.testing.contract import cases
from tests.services import Postgres


class PostgresBackend:
    """An empty database; handles are as several processes would have them."""

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


EMPTY = """
do $$ begin
    execute (select 'truncate ' || string_agg(quote_ident(tablename), ', ') from pg_tables
             where schemaname = 'public' and tablename <> 'consumer_schema');
end $$
"""


@pytest.fixture(scope="module")
def database(postgres_service: Postgres) -> Iterator[str]:
    """One for all cases: emptying it is ten times as fast as making another."""
    url = asyncio.run(postgres_service.fresh_database())
    asyncio.run(PostgresStore(url, "shop").migrate())
    yield url
    asyncio.run(postgres_service.drop_database(url))


@pytest.fixture
async def backend(database: str) -> AsyncIterator[PostgresBackend]:
    made = PostgresBackend(database)
    await made.run(EMPTY)
    yield made
    await made.close()


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
