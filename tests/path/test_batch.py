"""`batch=N`: one call for many messages, a verdict for each."""

from __future__ import annotations

from typing import Any

import pytest

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Batch, Key, Retry, Transactional, Tx
from consumer.entry import State
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

MODES = [Transactional(retry=Backoff(2, first=0)), AtMostOnce(), AtLeastOnce(retry=Backoff(2, first=0))]


def app_of(mode: Any, calls: list[list[str]]) -> App:
    app = App("shop")
    if isinstance(mode, Transactional):

        @app.on("orders", key=Key.field("id"), mode=mode, batch=10)
        async def write(orders: Batch[Order], tx: Tx) -> None:
            calls.append([item.payload.id for item in orders])
            for item in orders:
                if marked(item):
                    continue
                if item.payload.do == "write, then ask for another try" and item.ctx.attempt == 1:
                    await tx.execute("insert into effects (id) values ($1)", item.payload.id)
                    raise Retry("not yet", after=0)
                tx.write("insert into effects (id) values ($1)", item.payload.id)
                item.ctx.publish("effects", item.payload.id.encode())

    else:

        @app.on("orders", key=Key.field("id"), mode=mode, batch=10)
        async def tell(orders: Batch[Order]) -> None:
            calls.append([item.payload.id for item in orders])
            for item in orders:
                if not marked(item):
                    item.ctx.publish("effects", item.payload.id.encode())

    return app


def marked(item: Any) -> bool:
    if item.payload.do == "raise":
        raise ValueError("broken")
    if item.payload.do == "reject":
        item.reject("never")
    if item.payload.do == "retry" and item.ctx.attempt == 1:
        item.retry("not yet", after=0)
    return item.mark is not None


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
@pytest.mark.parametrize("brokered", [False, True])
async def test_unmarked_items_are_done_and_marked_ones_are_what_was_said(
    mode: Any, url: str, brokered: bool
) -> None:
    """Mutant: `item.reject` ignored in path/batch.py."""
    calls: list[list[str]] = []
    orders = [Order(f"a{n}") for n in range(8)] + [Order("no", "reject"), Order("later", "retry"), Order("z")]
    source = ListSource() if brokered else None
    async with opened(app_of(mode, calls), url, source=source) as process:
        if source is None:
            await process.publish_at_once("orders", orders)
        else:
            for order in orders:
                source.add("orders", order)
        await process.rest()
        states = await process.states()
        effects = await process.effects()
        published = {message.value.decode() for message in process.sink.published}
    good = {order.id for order in orders} - {"no"}
    assert states == dict.fromkeys(good, "done") | {"no": "dead"}
    assert published == good
    assert sorted(effects) == (sorted(good) if isinstance(mode, Transactional) else [])
    assert max(len(call) for call in calls) > 1, "messages share a call"
    assert max(len(call) for call in calls) <= 10


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: type(mode).__name__)
async def test_an_exception_is_every_item_s(mode: Any, url: str) -> None:
    """Transactional: one by one shows the culprit; at most once: nobody knows, so all of the call are in doubt."""
    calls: list[list[str]] = []
    orders = [Order("a"), Order("bad", "raise"), Order("c")]
    async with opened(app_of(mode, calls), url) as process:
        await process.publish("orders", orders)
        await process.rest()
        states = await process.states()
        effects = await process.effects()
    if isinstance(mode, Transactional):
        assert states == {"a": "done", "bad": "dead", "c": "done"}
        assert sorted(effects) == ["a", "c"]
    else:
        assert states["bad"] == ("in_doubt" if isinstance(mode, AtMostOnce) else "dead")
        shared = next(call for call in calls if "bad" in call)
        assert {states[id_] for id_ in shared} == {states["bad"]}


async def test_what_a_call_wrote_before_it_asked_for_another_try_is_not_committed(url: str) -> None:
    """A neighbour of the same group has returned: its commit must not carry the rows of a call that raised `Retry`."""
    calls: list[list[str]] = []
    app = app_of(Transactional(retry=Backoff(3, first=0)), calls)
    orders = [Order(f"a{n}") for n in range(10)] + [Order("again", "write, then ask for another try")]
    async with opened(app, url) as process:
        await process.publish_at_once("orders", orders)
        await process.rest()
        states = await process.states()
        effects = await process.effects()
    if url.startswith("sqlite"):  # one lane: nobody takes a part of it meanwhile
        assert calls[:2] == [[f"a{n}" for n in range(10)], ["again"]], "two calls in one group"
    assert states == dict.fromkeys((order.id for order in orders), "done")
    assert sorted(effects) == sorted(order.id for order in orders)


async def test_a_marked_item_waits_as_long_as_it_asked_for(url: str) -> None:
    """Marked in the commit of the rest: nobody finds it due in between."""
    asked: list[int] = []
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=Transactional(), batch=10)
    async def write(orders: Batch[Order], tx: Tx) -> None:
        for item in orders:
            if item.payload.do == "retry":
                asked.append(item.ctx.attempt)
                item.retry("not yet", after=3600)

    async with opened(app, url) as process:
        orders = [Order("a"), Order("later", "retry"), Order("b")]
        await process.publish_at_once("orders", orders)
        await process.until(lambda: len(process.watch.of("later")) > 0)
        await process.rest()
        entry = await process.entry("later")
    assert asked == [1]
    assert (entry.state, entry.attempts, entry.reason) == (State.WAITING, 1, "not yet")
    assert [line.event for line in entry.story] == ["retry"]
