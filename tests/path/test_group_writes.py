"""Collected writes whose error meets the wrong handler: the flush happens inside a neighbour, which may swallow it."""

from __future__ import annotations

import contextlib

from consumer import App, Backoff, Key, Transactional, Tx
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource


async def test_a_neighbour_that_swallows_another_ones_write_fault(
    url: str,
) -> None:
    """The write that failed, and those queued behind it, must not be lost under entries that say done."""
    app = App("shop")
    app.schema(
        postgres=["create table if not exists numbers (id text, n integer not null)"],
        sqlite=["create table if not exists numbers (id text, n integer not null)"],
    )

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(2, first=0)))
    async def take(order: Order, tx: Tx) -> None:
        if order.do == "swallow":
            with contextlib.suppress(Exception):  # what careless code does
                await tx.execute("insert into effects (id) values ($1)", order.id)
        else:
            tx.write("insert into effects (id) values ($1)", order.id)
            tx.write(
                "insert into numbers (id, n) values ($1, $2)", order.id, None if order.do == "null" else 1
            )

    async with opened(app, url, source=ListSource()) as process:
        for order in [Order("a"), Order("b", "null"), Order("c"), Order("d", "swallow"), Order("e")]:
            process.source.add("orders", order)
        await process.rest()
        states = await process.states()
        effects = await process.effects()
    assert states == {"a": "done", "b": "dead", "c": "done", "d": "done", "e": "done"}
    assert effects == ["a", "c", "d", "e"]
