"""What a crash may leave behind is bounded before it happens: by the slots, and by attempts that are counted first."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from consumer import App, AtMostOnce, Key, Transactional, Tx
from consumer.entry import State
from consumer.stores import open_store
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource

SLOTS = 3


@pytest.fixture(params=["store", "broker"])
def source(request: pytest.FixtureRequest) -> ListSource | None:
    return ListSource() if request.param == "broker" else None


async def feed(process: Shop, orders: list[Order]) -> None:
    if process.source is None:
        await process.publish("orders", orders)
    for order in orders if process.source is not None else []:
        process.source.add("orders", order)


async def test_no_more_keys_are_started_than_there_are_slots(source: ListSource | None, url: str) -> None:
    """Those that run are what a crash would leave in doubt.

    Mutant: claim batch > slots (`Slots._next` and `Slots._take_due`: `free` without `len(self._slots)`).
    """
    app, running, shops = App("shop"), list[int](), list[Shop]()
    one_too_many = asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def take(order: Order) -> None:
        running.append(len(await shops[0].entries(State.RUNNING)))
        if len(running) > SLOTS:
            one_too_many.set()
        # Long enough for the loop to claim more, if it would.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(one_too_many.wait(), 0.3)

    async with opened(app, url, source=source, slots=SLOTS) as process:
        shops.append(process)
        await feed(process, [Order(f"k{number}") for number in range(SLOTS + 2)])
        await process.rest()
        assert set((await process.states()).values()) == {"done"}
    assert len(running) == SLOTS + 2
    assert max(running) <= SLOTS


async def test_an_attempt_is_counted_before_it_starts_when_a_process_may_have_died(
    source: ListSource | None, url: str
) -> None:
    """A message that kills its process leaves no more than this: an entry that says running, and the attempt's number.

    Mutants: poison that kills the process is not counted (`Caution.look` that never alarms; `run_transactional` and
    `Lanes._due_group` that are never careful).
    """
    app, seen = App("shop"), list[tuple[str, int]]()
    beside = open_store(url, app.name)

    @app.on("orders", key=Key.field("id"), mode=Transactional())
    async def take(order: Order, tx: Tx) -> None:
        found = await beside.operator.find(order.id.encode())
        seen.extend((entry.state.word, entry.attempts) for entry in found)
        if not found:
            seen.append(("absent", 0))
        await tx.execute("insert into effects (id) values ($1)", order.id)

    async with opened(app, url, source=source, consume=False):
        pass  # the tables are made
    await beside.open()
    await beside.workers.open(600, "it gives no sign of life")
    async with opened(app, url, source=source) as process:
        await feed(process, [Order("a"), Order("b")])
        await process.rest()
        assert await process.effects() == ["a", "b"]
    await beside.close()
    assert seen == [("running", 1), ("running", 1)]
