"""The loop between a broker and the handlers leaves the event loop to others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from consumer import App, AtMostOnce, Key
from consumer.message import Delivery
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

ROUNDS = 3_000


class Eager(ListSource):
    """A source that answers without ever waiting, as one does that always has something at hand."""

    polls = 0
    in_a_row = 0
    longest = 0

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        self.polls += 1
        self.in_a_row += 1
        self.longest = max(self.longest, self.in_a_row)
        if self.in_a_row >= 1_000:  # it is seen; the test itself goes on
            await asyncio.sleep(0.01)
        return []


async def test_a_source_that_never_waits_leaves_the_loop_to_others(tmp_path: Path) -> None:
    """Mutant: no yield, and nothing else of the process moves."""
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order) -> None: ...

    source = Eager()

    async def others() -> None:
        while True:
            source.in_a_row = 0
            await asyncio.sleep(0)

    async with opened(app, f"sqlite:///{tmp_path / 'shop.db'}", source=source) as at:
        beside = asyncio.create_task(others())
        await at.until(lambda: source.polls >= ROUNDS)
        beside.cancel()
    assert source.longest < 100
