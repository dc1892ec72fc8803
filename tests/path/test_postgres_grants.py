"""A role with the grants of docs/operations.md works; what an administrator takes away from it is waited for."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from consumer import App, AtMostOnce, Backoff, Context, Key, Transactional, Tx
from tests.path.kit import Order, migrated, opened, select
from tests.path.listsource import ListSource

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
MODES = [AtMostOnce(), Transactional(retry=Backoff(2, first=0))]


def app_of(mode: Any, starts: list[str]) -> App:
    app = App("shop")
    if isinstance(mode, Transactional):

        @app.on("orders", key=Key.field("id"), mode=mode)
        async def write(order: Order, tx: Tx, ctx: Context) -> None:
            starts.append(order.id)
            tx.write("insert into effects (id) values ($1)", order.id)
            ctx.publish("told", order.id.encode())

    else:

        @app.on("orders", key=Key.field("id"), mode=mode)
        async def tell(order: Order, ctx: Context) -> None:
            starts.append(order.id)
            ctx.publish("told", order.id.encode())

    return app


@pytest.fixture
async def clerk(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a role that may do nothing yet."""
    role = f"clerk_{uuid.uuid4().hex[:8]}"
    await said(postgres_url, f"create role {role} login")
    yield re.sub(r"//[^@]*@", f"//{role}@", postgres_url)
    await said(postgres_url, f"drop owned by {role}", f"drop role {role}")


async def said(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def grant(postgres_url: str, clerk: str) -> str:
    """Grant what docs/operations.md says, and return the role's name."""
    page = " ".join(PAGE.read_text().split())
    assert (
        "`select, insert, update, delete` on the `consumer_*` tables, `usage` on their sequences, `execute` on "
        "`consumer_seal`, and what your handlers need"
    ) in page
    role = clerk.partition("//")[2].partition("@")[0]
    tables = [
        row[0]
        for row in await select(
            postgres_url, "select tablename from pg_tables where tablename like 'consumer%'"
        )
    ]
    sequences = [
        row[0]
        for row in await select(
            postgres_url, "select sequencename from pg_sequences where sequencename like 'consumer%'"
        )
    ]
    await said(
        postgres_url,
        f"grant select, insert, update, delete on {', '.join(tables)} to {role}",
        f"grant usage on sequence {', '.join(sequences)} to {role}",
        f"grant execute on function consumer_seal to {role}",
        f"grant insert on effects to {role}",
    )
    return role


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
async def test_a_grant_that_is_taken_away_under_way_is_waited_for(
    mode: Any, postgres_url: str, clerk: str
) -> None:
    """Not ready meanwhile, nothing is lost or run twice, and what had started is settled when it is given back."""
    starts: list[str] = []
    app, source = app_of(mode, starts), ListSource()
    await migrated(app, postgres_url)
    role = await grant(postgres_url, clerk)
    async with opened(app, clerk, source=source, migrate=False) as shop:
        source.add("orders", Order("a"))
        await shop.rest()
        await said(postgres_url, f"revoke update on consumer_inbox from {role}")
        source.add("orders", Order("b"))
        await shop.until(lambda: not shop.running.runtime.ready)
        assert shop.running.runtime.troubles()
        await said(postgres_url, f"grant update on consumer_inbox to {role}")
        await shop.rest()
        await shop.until(lambda: shop.running.runtime.ready)
        states = await shop.states()
        told = [message.value for message in shop.sink.published]
    assert states == {"a": "done", "b": "done"}
    assert sorted(told) == [b"a", b"b"]
    if isinstance(mode, Transactional):
        assert [row[0] for row in await select(postgres_url, "select id from effects order by id")] == [
            "a",
            "b",
        ]
    else:
        assert starts == ["a", "b"]
