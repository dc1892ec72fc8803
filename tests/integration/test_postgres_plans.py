"""What is asked all the time reads by an index what it is about, and not what others keep."""

from __future__ import annotations

import asyncpg
import pytest

from consumer.entry import Kind, Settled, State
from consumer.stores.postgres import PostgresStore, arrivals, doubts, operator
from consumer.stores.postgres.schema import STEPS
from consumer.testing.contract.samples import Process, claim, end, only

MANY = """
insert into consumer_inbox (id, token, created_at, due_at, state, on_lapse, attempts, budget, fingerprint,
                            app, tenant, handler, key, message)
select gen_random_uuid(), n, now() - interval '80 days', case when $2::int = 1 then now() - interval '1 hour' end,
       $2::int, 0, 1, 5, 'aaaaaaaaaaaaaaaa', 'shop', 'public', $1::text, ('key' || n)::bytea, 'bytes'::bytea
from generate_series(1, 20000) n
"""


async def fill(url: str, handler: str, state: State) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(MANY, handler, int(state))
    await connection.execute("analyze consumer_inbox")
    await connection.close()


async def read(connection, sql: str, *args: object) -> str:
    """Return the plan as it is run, on a connection that is then thrown away."""
    try:
        async with connection.transaction():
            return "\n".join(row[0] for row in await connection.fetch(f"explain (analyze) {sql}", *args))
    finally:
        connection.terminate()


async def test_a_purge_reads_nothing_of_a_handler_that_keeps_longer(store, postgres_url):
    await fill(postgres_url, "kept for long", State.DONE)
    connection = await store._connector.for_people()
    plan = await read(connection, operator._PURGE, "shop", "kept for a day", 86_400.0, 5_000)
    assert "consumer_inbox_age" in plan
    assert "Rows Removed by Filter" not in plan


async def test_doubts_are_found_behind_all_that_is_due(store, postgres_url):
    await fill(postgres_url, "pay", State.RECEIVED)
    connection = await store._connector.for_calls()
    plan = await read(connection, doubts._ASK, "shop", ["pay"], 16, 60.0, 5)
    assert "consumer_inbox_doubts" in plan
    assert "Rows Removed by Filter" not in plan


async def test_due_walks_its_index_in_order(store, postgres_url):
    """And reads no more than it takes."""
    worker = await store.workers.open(600, "test")
    await fill(postgres_url, "pay", State.RECEIVED)
    connection = await store._connector.for_calls()
    plan = await read(connection, arrivals._DUE, "shop", ["pay"], 100, worker)
    walked = next(line for line in plan.splitlines() if "using consumer_inbox_due" in line)
    assert "rows=100" in walked.partition("actual")[2]


@pytest.mark.parametrize("done", range(1, len(STEPS)))
async def test_a_store_of_any_earlier_version_goes_on(postgres_url, done):
    """The steps that are missing are done on tables that hold something."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(
        "create table consumer_schema (version integer primary key, step text not null,"
        " done_at timestamptz not null default now())"
    )
    for number, (name, sql) in enumerate(STEPS[:done], 1):
        await connection.execute(sql)
        await connection.execute("insert into consumer_schema (version, step) values ($1, $2)", number, name)
    await connection.close()
    await fill(postgres_url, "pay", State.DONE)
    store = PostgresStore(postgres_url, "shop")
    try:
        assert await store.migrate() == [name for name, _ in STEPS[done:]]
        await store.open()
        assert (
            await store.operator.purge(app="shop", handler="pay", older_than=86_400.0, limit=5_000) == 5_000
        )
        here = Process(store, await store.workers.open(600, "test"))
        won = await here.win(claim())
        await here.ended(claim(), won.token, Kind.DOUBT, delay=0.0, message=b"bytes")
        assert only(await here.doubts()).token == won.token
        assert await here.settle(end(claim(), won.token, Kind.COMPLETE)) is Settled.OK
    finally:
        await store.close()
