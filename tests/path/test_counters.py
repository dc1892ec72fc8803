"""What is counted agrees with the tables: a mixed stream through all modes, then the store is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Reject, Transactional, Tx
from consumer.entry import State
from consumer.observe.families import OUTCOMES
from consumer.rules.modes import Mode
from consumer.settings import Settings
from tests.path.kit import Order, Shop, migrated, opened
from tests.path.listsource import ListSource

QUICK = Backoff(2, first=0.01, factor=1, longest=0.01)
TOPICS: dict[str, Mode] = {
    "transactional": Transactional(retry=QUICK),
    "once": AtMostOnce(),
    "least": AtLeastOnce(retry=QUICK),
    "ordered": AtMostOnce(),
}


def shop_app() -> App:
    app = App("shop")

    async def act(order: Order) -> None:
        if order.do == "reject":
            raise Reject("never")
        if order.do == "raise":
            raise ValueError("broken")

    @app.on("transactional", key=Key.field("id"), mode=TOPICS["transactional"])
    async def transactional(order: Order, tx: Tx) -> None:
        await tx.execute("insert into effects (id) values ($1)", order.id)
        await act(order)

    for topic in ("once", "least", "ordered"):

        @app.on(topic, key=Key.field("id"), mode=TOPICS[topic], name=topic, ordered=topic == "ordered")
        async def other(order: Order) -> None:
            await act(order)

    return app


def mixed(source: ListSource, topic: str) -> None:
    """20 that return, each twice; 5 of these keys with another payload; 4 refused, 3 that raise, 2 that are no JSON."""
    for order in (
        *(Order(f"good-{i}") for i in range(20)),
        *(Order(f"good-{i}") for i in range(20)),
        *(Order(f"good-{i}", amount=99) for i in range(5)),
    ):
        source.add(topic, order, record_key=order.id.encode())  # in order: the first one wins the key
    for i in range(4):
        source.add(topic, Order(f"refused-{i}", do="reject"))
    for i in range(3):
        source.add(topic, Order(f"broken-{i}", do="raise"))
    for i in range(2):
        source.add(topic, b"no JSON %d" % i)


def counted(shop: Shop, topic: str) -> dict[str, int]:
    return dict(zip(OUTCOMES, shop.observed.tally.handlers[topic].outcomes, strict=True))


async def stored(shop: Shop, topic: str) -> dict[State, int]:
    return {c.state: c.count for c in await shop.store.operator.stats(app="shop") if c.handler == topic}


@pytest.mark.parametrize("topic", list(TOPICS))
async def test_counters_agree_with_the_tables(url: str, topic: str) -> None:
    """Mutants: dead letters of what has no key not counted; questions about a running key counted as duplicates."""
    source = ListSource()
    mixed(source, topic)
    async with opened(shop_app(), url, source=source, observed=True) as shop:
        await shop.rest()
        seen, there = counted(shop, topic), await stored(shop, topic)
        others = [word for name in TOPICS if name != topic for word, n in counted(shop, name).items() if n]
    in_doubt = 3 if topic in {"once", "ordered"} else 0
    expected: dict[str, Any] = dict.fromkeys(OUTCOMES, 0) | {
        "done": 20,
        "duplicate": 20,
        "conflict": 5,
        "in_doubt": in_doubt,
        "dead": 4 + 2 + (3 - in_doubt),
        "waiting": 3 - in_doubt,
    }
    assert seen == expected
    assert there.get(State.DONE) == seen["done"]
    assert there.get(State.IN_DOUBT, 0) == seen["in_doubt"]
    assert there.get(State.DEAD) == seen["dead"] + seen["conflict"], "a conflict is a dead letter of its own"
    assert not others


async def test_what_is_delivered_again_is_counted_as_duplicates(url: str) -> None:
    source = ListSource()
    for i in range(10):
        source.add("once", Order(f"o-{i}"))
    async with opened(shop_app(), url, source=source, observed=True) as shop:
        await shop.rest()
        for i in range(10):
            source.add("once", Order(f"o-{i}"))
        await shop.rest()
        assert counted(shop, "once") == dict.fromkeys(OUTCOMES, 0) | {"done": 10, "duplicate": 10}


async def test_figures_of_the_store_are_those_of_the_tables(url: str) -> None:
    source = ListSource()
    mixed(source, "once")
    async with opened(shop_app(), url, source=source, observed=True) as shop:
        await shop.rest()
        figures = shop.running.runtime.figures
        await figures.look()
        samples = shop.observed.samples()
        entries = dict(samples["consumer_entries"])
        assert {state: entries["once", state.word] for state in (State.DONE, State.DEAD, State.IN_DOUBT)} == (
            await stored(shop, "once")
        )
        assert entries["least", "done"] == 0, "a handler that has nothing is told of too"
        ages = dict(samples["consumer_oldest_entry_seconds"])
        assert 0 < ages["once", "in_doubt"] < 60
        assert ages["once", "waiting"] == 0
        assert samples["consumer_outbox_backlog"] == [((), 0)]


async def test_an_adopted_entry_is_counted_where_it_is_adopted(url: str) -> None:
    """A worker that dies takes its counters with it; who finds its entries says what became of them."""
    app = shop_app()
    async with opened(app, url, source=ListSource(), observed=True) as shop:
        runtime = shop.running.runtime
        runtime.sweep.adopted["once", State.IN_DOUBT] += 2
        runtime.sweep.adopted["somebody-elses", State.IN_DOUBT] += 1
        rows = dict(shop.observed.samples()["consumer_outcomes_total"])
        assert rows["once", "AtMostOnce", "in_doubt"] == 2
        assert sum(value for value in rows.values() if isinstance(value, int)) == 2


async def test_what_nobody_subscribes_to_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Mutant: nobody is told of it but the log."""
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order, ctx: Context) -> None:
        ctx.publish("nowhere", b"{}")

    url = f"sqlite:///{tmp_path / 'shop.db'}"
    await migrated(app, url)
    settings = Settings(store=url)
    observed = app.observed(settings)
    async with app.running(settings, observer=observed, consume=False) as running:
        observed.opened(running.runtime, running.desk)
        assert observed.samples()["consumer_unrouted_total"] == [((), 0)]
        await running.publish("orders", Order("o-1"))
        await running.publish("nowhere", b"{}")
        await running.call(order, Order("o-2"))
        assert observed.samples()["consumer_unrouted_total"] == [((), 2)]
    assert caplog.text.count("nobody subscribes to the embedded topic 'nowhere'") == 1
