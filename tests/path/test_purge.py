"""Retention: done entries are forgotten when they are old enough; what people must see never is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import asyncpg

from consumer import App, AtMostOnce, Key, Reject
from tests.path.kit import Order, opened

DAY = 86_400


async def test_old_done_entries_go(url: str) -> None:
    """Mutant: `purge` that asks for no state, or `Sweep.purge` with one retention for all."""
    app = App("shop")

    async def act(order: Order) -> str:
        if order.do == "reject":
            raise Reject("never")
        if order.do == "raise":
            raise ValueError("broken")
        return order.id

    @app.on("short", key=Key.field("id"), mode=AtMostOnce(), retention=timedelta(days=2))
    async def short(order: Order) -> str:
        return await act(order)

    @app.on("long", key=Key.field("id"), mode=AtMostOnce(), retention=timedelta(days=30))
    async def long(order: Order) -> str:
        return await act(order)

    async with opened(app, url) as process:
        await process.publish(
            "short", [Order("old"), Order("old-dead", "reject"), Order("old-doubt", "raise")]
        )
        await process.publish("long", [Order("old-but-kept")])
        await process.rest()
        await age(url, 3 * DAY)
        await process.publish("short", [Order("young")])
        await process.rest()
        await process.running.runtime.sweep.purge()
        assert await process.states() == {
            "old-dead": "dead",
            "old-doubt": "in_doubt",
            "old-but-kept": "done",
            "young": "done",
        }
        await process.publish("short", [Order("old")])  # its key is new again
        await process.rest()
        assert (await process.states())["old"] == "done"


async def age(url: str, seconds: int) -> None:
    """Make all entries older than they are."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection, connection:
            connection.execute("update consumer_inbox set created_at = created_at - ?", (seconds,))
        return
    database = await asyncpg.connect(url)
    await database.execute(
        "update consumer_inbox set created_at = created_at - make_interval(secs => $1)", seconds
    )
    await database.close()
