"""The end of a process: what it has claimed is settled, also what it claims at that very moment."""

from __future__ import annotations

import asyncio
from typing import Any

from consumer import App, AtMostOnce, Key
from consumer.ports.store import Store
from tests.path.kit import Order, migrated, opened


class SlowDue:
    """A store whose `due` has claimed, and whose answer is still on its way."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        self.arrivals: Any = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def land(self, landings: Any) -> Any:
        return await self._store.arrivals.land(landings)

    async def due(self, worker: int, handlers: Any, limit: int) -> Any:
        taken = await self._store.arrivals.due(worker, handlers, limit)
        if taken:
            self.asked.set()
            await self.answer.wait()
        return taken


async def test_what_is_claimed_while_it_drains_is_settled(url: str) -> None:
    """Mutant: `Slots.idle` without `_taking` (then the claimed are never started, and in doubt after a clean end)."""
    app = App("shop")
    starts: list[str] = []

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def take(order: Order) -> None:
        starts.append(order.id)

    slow: list[SlowDue] = []

    def wrap(store: Store) -> Store:
        slow.append(SlowDue(store))
        wrapped: Any = slow[0]
        return wrapped

    await migrated(app, url)
    async with opened(app, url, wrap=wrap, migrate=False) as process:
        await process.publish("orders", [Order("a")])
        await slow[0].asked.wait()
        draining = asyncio.create_task(process.running.runtime.drain(10))
        for _ in range(5):
            await asyncio.sleep(0.02)
        assert not draining.done(), "it waits for the answer"
        slow[0].answer.set()
        assert await draining
        states = await process.states()
    assert starts == ["a"]
    assert states == {"a": "done"}
