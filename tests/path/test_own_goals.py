"""Handlers that hurt themselves: they cancel their own task, or close the connection beneath them. Nobody else waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer import App, AtMostOnce, Backoff, Key, Transactional, Tx
from tests.path.kit import Order, opened


@pytest.mark.parametrize("mode", [Transactional(retry=Backoff(2, first=0)), AtMostOnce()], ids=repr)
async def test_one_that_cancels_its_own_task_and_returns(mode: Any, url: str) -> None:
    """It has returned, so it is done; the cancellation that it leaves behind is nobody else's.

    Mutant: `attempt` that does not take it back (it comes in the middle of the group, and the lane ends with no word).
    """
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=mode)
    async def take(order: Order) -> None:
        task = asyncio.current_task()
        if order.do == "raise" and task is not None:
            task.cancel()

    async with opened(app, url) as process:
        await process.publish("orders", [Order("a"), Order("bad", "raise"), Order("c")])
        await process.rest()
        await process.publish("orders", [Order("later")])
        await process.rest()
        assert await process.states() == dict.fromkeys(("a", "bad", "c", "later"), "done")


@pytest.mark.parametrize("mode", [Transactional(retry=Backoff(2, first=0)), AtMostOnce()], ids=repr)
async def test_one_that_cancels_its_own_task(mode: Any, url: str) -> None:
    """Mutant: `attempt` takes any cancellation for the runtime's (then the lane ends, with no word)."""
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=mode)
    async def take(order: Order) -> None:
        if order.do == "raise":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async with opened(app, url) as process:
        await process.publish("orders", [Order("a"), Order("bad", "raise"), Order("c")])
        await process.rest()
        await process.publish("orders", [Order("later")])
        await process.rest()
        states = await process.states()
    bad = "dead" if isinstance(mode, Transactional) else "in_doubt"
    assert states == {"a": "done", "bad": bad, "c": "done", "later": "done"}


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "returns"])
async def test_one_that_closes_its_connection(postgres_url: str, goes_on: bool) -> None:
    """Mutant: a store that fails beneath a handler counts no attempt (then it is tried for ever)."""
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(2, first=0)))
    async def take(order: Order, tx: Tx) -> None:
        if order.do == "raise":
            await tx.driver.close()
            if not goes_on:
                return
        await tx.execute("insert into effects (id) values ($1)", order.id)

    async with opened(app, postgres_url) as process:
        await process.publish("orders", [Order("a"), Order("bad", "raise"), Order("c")])
        await process.rest()
        states = await process.states()
        effects = await process.effects()
    assert states == {"a": "done", "bad": "dead", "c": "done"}
    assert sorted(effects) == ["a", "c"]
