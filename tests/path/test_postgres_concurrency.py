"""`concurrency=` of a Transactional handler: it uses so many lanes, whichever way its messages come."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from consumer import App, Key, Transactional, Tx
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

COUNT = 200


@pytest.mark.parametrize("way", ["broker", "store"])
@pytest.mark.parametrize(("most", "seen"), [(1, 1), (2, 2), (None, 4)])
async def test_no_more_run_at_once_than_may(postgres_url: str, way: str, most: int | None, seen: int) -> None:
    """Four connections are there, and all are used where nothing is said. Mutants: a lane more for either way."""
    app = App("shop")
    running, highest = 0, 0
    all_inside = asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=Transactional(), concurrency=most)
    async def take(order: Order, tx: Tx) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        if (
            highest < seen
        ):  # stay until the others have come: how fast they get their entries, the machine decides
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(all_inside.wait(), 0.5)
        else:
            all_inside.set()
            await asyncio.sleep(0.005)
        running -= 1

    orders = [Order(f"o-{number}") for number in range(COUNT)]
    source = ListSource() if way == "broker" else None
    async with opened(app, postgres_url, source=source) as process:
        if source is None:
            await process.publish_at_once("orders", orders)
        else:
            for order in orders:
                source.add("orders", order)
        await process.rest()
        assert len(await process.entries()) == COUNT
    assert highest == seen
