"""What a rebalance takes away while it waits in a queue is not in hand any more: nobody counts its age."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer import App, AtMostOnce, Key, Transactional
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource


@pytest.mark.parametrize("mode", [AtMostOnce(), Transactional()], ids=repr)
async def test_a_rebalance_leaves_nothing_in_hand(mode: Any, url: str) -> None:
    """Else a process that has done all its work is not ready, ten minutes after a rebalance under load, for ever.

    Mutant: `InHand.oldest` that counts what is not held any more.
    """
    app, source, inside, gate = App("shop"), ListSource(), asyncio.Event(), asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=mode, concurrency=1)
    async def take(order: Order) -> None:
        inside.set()
        await gate.wait()

    async with opened(app, url, source=source) as process:
        source.add("orders", Order("first"))
        await inside.wait()
        for number in range(10):
            source.add("orders", Order(f"queued {number}"))
        await process.until(lambda: len(source.delivered) == 11)
        asyncio.get_running_loop().call_later(0.1, gate.set)  # while the rebalance waits for it
        await source.redeliver()
        await process.until(lambda: source.settled)
        in_hand = process.running.runtime._in_hand
        assert (in_hand.oldest, len(in_hand)) == (None, 0)
