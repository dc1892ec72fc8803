"""`ordered=True`: messages of one ordering key take effect one at a time, in the order of their arrival."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from consumer import (
    App,
    AtLeastOnce,
    AtMostOnce,
    Backoff,
    Batch,
    Context,
    InFlight,
    Key,
    Reject,
    Retry,
    Transactional,
)
from consumer.declare.tx import Tx
from consumer.entry import State
from consumer.errors import SettingsError
from consumer.ports.operator import Resolution
from consumer.stores.memory import MemoryStore
from consumer.worker.wiring import check_store
from tests.path.kit import Order, Shop, migrated, opened, select
from tests.path.listsource import ListSource
from tests.path.test_acks import other
from tests.path.weather import Weather

SOON = Backoff(20, first=0.02, factor=1)
MODES: dict[str, Callable[[], Any]] = {
    "Transactional": lambda: Transactional(retry=SOON),
    "AtMostOnce": AtMostOnce,
    "AtLeastOnce": lambda: AtLeastOnce(retry=SOON),
}


class Ledger:
    """What the handlers did, lane by lane, and whether two of one lane ever ran at once."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self.most = 0
        self.starts: Counter[str] = Counter()

    def effects(self) -> dict[str, list[int]]:
        """Each once: a group that is rolled back for a neighbour's failure runs its handlers again."""
        return {lane: list(dict.fromkeys(numbers)) for lane, numbers in self.done.items()}

    def in_order(self, lanes: int, each: int) -> bool:
        return self.effects() == {f"acc-{lane}": list(range(each)) for lane in range(lanes)}


def shop(mode: Any, ledger: Ledger, *, fails: dict[str, int] | None = None, **options: Any) -> App:
    """An app whose handler `orders` notes what it does; an id is `lane/number`."""
    app = App("shop")
    left = Counter(fails or {})

    async def work(order: Order, context: Context) -> None:
        lane, _, number = order.id.partition("/")
        ledger.starts[order.id] += 1
        ledger.running[lane] += 1
        ledger.most = max(ledger.most, ledger.running[lane])
        try:
            await asyncio.sleep(0)
            if left[order.id] > 0:
                left[order.id] -= 1
                raise Retry("busy", after=0.02)
            if order.do == "reject":
                raise Reject("refused")
            if order.do == "raise":
                raise RuntimeError("what happened is not known")
            ledger.done[lane].append(int(number))
        finally:
            ledger.running[lane] -= 1

    options = {"key": Key.field("id"), "ordered": True, "mode": mode} | options
    if isinstance(mode, Transactional):

        @app.on("orders", **options)
        async def transactional(order: Order, ctx: Context, tx: Tx) -> None:
            await work(order, ctx)
            await tx.execute("insert into effects (id, what) values ($1, $2)", order.id, "done")

    else:

        @app.on("orders", **options)
        async def claimed(order: Order, ctx: Context) -> None:
            await work(order, ctx)

    return app


def feed(source: ListSource, lanes: int, each: int, do: dict[str, str] | None = None) -> None:
    for number in range(each):
        for lane in range(lanes):
            name = f"acc-{lane}/{number}"
            source.add(
                "orders",
                Order(name, (do or {}).get(name, "return")),
                partition=lane % 3,
                record_key=f"acc-{lane}".encode(),
            )


async def finished(at: Shop) -> None:
    await at.rest()
    assert await at.entries(State.RECEIVED, State.RUNNING, State.WAITING, State.IN_DOUBT) == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_lane_keeps_its_order_through_retries(url, mode):
    source, ledger = ListSource(), Ledger()
    fails = {"acc-0/1": 2, "acc-1/0": 1, "acc-1/3": 3, "acc-2/4": 1}
    feed(source, lanes=4, each=6)
    async with opened(shop(MODES[mode](), ledger, fails=fails), url, source=source) as at:
        await finished(at)
    assert ledger.in_order(lanes=4, each=6)
    assert ledger.most == 1
    for name, times in fails.items():
        # A Transactional one may be started again because a neighbour of its group has failed.
        assert ledger.starts[name] == times + 1 or (mode == "Transactional" and ledger.starts[name] > times)


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_published_keeps_its_order(url, mode):
    ledger = Ledger()
    async with opened(shop(MODES[mode](), ledger, fails={"acc-0/0": 2}), url) as at:
        for number in range(5):
            for lane in range(2):
                name = f"acc-{lane}/{number}"
                await at.running.publish("orders", Order(name), ordering_key=f"acc-{lane}")
        await finished(at)
    assert ledger.in_order(lanes=2, each=5)


async def test_batches_take_one_of_each_lane(url):
    """A call of a handler of batches never has two of one ordering key."""
    app = App("shop")
    calls: list[list[str]] = []

    @app.on("orders", key=Key.field("id"), mode=AtLeastOnce(retry=SOON), ordered=True, batch=50)
    async def orders(batch: Batch[Order]) -> None:
        calls.append([item.payload.id for item in batch])

    source = ListSource()
    feed(source, lanes=3, each=4)
    async with opened(app, url, source=source) as at:
        await finished(at)
    assert all(len({name.partition("/")[0] for name in call}) == len(call) for call in calls)
    done = [name for call in calls for name in call]
    for lane in range(3):
        assert [name for name in done if name.startswith(f"acc-{lane}/")] == [
            f"acc-{lane}/{n}" for n in range(4)
        ]


async def test_behind_a_doubt_messages_are_landed_and_acknowledged_and_wait(url):
    """Their partition goes on; they run when somebody has ended the doubt."""
    source, ledger = ListSource(), Ledger()
    feed(source, lanes=2, each=4, do={"acc-0/1": "raise"})
    async with opened(shop(AtMostOnce(), ledger), url, source=source) as at:
        await at.until(lambda: source.settled and ledger.done["acc-1"] == [0, 1, 2, 3])
        [doubt] = await at.entries(State.IN_DOUBT)
        behind = await at.entries(State.RECEIVED)
        assert doubt.key == b"acc-0/1"
        assert [(entry.key, entry.behind) for entry in behind] == [
            (b"acc-0/2", doubt.identity),
            (b"acc-0/3", doubt.identity),
        ]
        assert all(entry.message is not None for entry in behind)
        assert ledger.done["acc-0"] == [0]
        ended = Resolution(doubt.identity, doubt.token, State.DONE, "it was charged")
        assert await at.store.operator.resolve(ended)
        await finished(at)
    assert ledger.done["acc-0"] == [0, 2, 3]
    assert ledger.starts["acc-0/1"] == 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_dead_letter_lets_the_others_pass_and_is_redriven_behind_them(url, mode):
    source, ledger = ListSource(), Ledger()
    feed(source, lanes=1, each=3, do={"acc-0/0": "reject"})
    app = shop(MODES[mode](), ledger)
    async with opened(app, url, source=source) as at:
        await at.until(lambda: ledger.done["acc-0"] == [1, 2])
        await at.rest()
        [dead] = await at.entries(State.DEAD)
        assert (dead.key, dead.lane, dead.behind) == (b"acc-0/0", b"acc-0", None)
        assert await at.store.operator.redrive(dead.identity, dead.token, "again")
        await at.until(lambda: ledger.starts["acc-0/0"] >= 2)
        await at.rest()


async def test_without_an_ordering_key_there_is_no_order(url):
    """Nothing waits for a message that has none."""
    source, ledger = ListSource(), Ledger()
    source.add("orders", Order("none/0", "raise"))
    source.add("orders", Order("none/1"))
    async with opened(shop(AtMostOnce(), ledger), url, source=source) as at:
        await at.rest()
        assert ledger.done["none"] == [1]
        [doubt] = await at.entries(State.IN_DOUBT)
        assert (doubt.lane, doubt.behind) == (None, None)


async def test_a_rule_names_the_ordering_key_on_every_way_in(url):
    """`ordered=` a rule: whatever the record key is; a message without it is a dead letter."""
    source, ledger = ListSource(), Ledger()
    app = shop(AtMostOnce(), ledger, ordered=lambda order: order.do)
    for number in range(3):
        source.add("orders", Order(f"a/{number}", "return"), record_key=b"%d" % number)
    source.add("orders", Order("a/9", ""), record_key=b"9")
    async with opened(app, url, source=source) as at:
        await at.rest()
        assert await at.running.call(app.handlers.declared[0].function, Order("a/3")) is None
        assert {entry.lane for entry in await at.entries(State.DONE)} == {b"return"}
        [dead] = await at.entries(State.DEAD)
        assert "ordered" in (dead.reason or "")
    assert ledger.done["a"] == [0, 1, 2, 3]


async def test_duplicates_and_conflicts_of_a_lane(url):
    """A second delivery starts nothing and is acknowledged; another payload is a dead letter that holds up nobody."""
    source, ledger = ListSource(), Ledger()
    for order in (Order("acc-0/0"), Order("acc-0/0"), Order("acc-0/0", amount=2), Order("acc-0/1")):
        source.add("orders", order, record_key=b"acc-0")
    async with opened(shop(AtLeastOnce(retry=SOON), ledger), url, source=source) as at:
        await finished(at)
        await source.redeliver()
        source.add("orders", Order("acc-0/0"), record_key=b"acc-0")
        await finished(at)
        [dead] = await at.entries(State.DEAD)
        assert not dead.keyed
    assert ledger.done["acc-0"] == [0, 1]


async def test_a_key_that_runs_elsewhere_without_its_bytes_stays_in_hand(url):
    """Claimed before its handler was ordered: its delivery is not acknowledged before the entry permits it."""
    source, ledger = ListSource(), Ledger()
    before = shop(AtLeastOnce(retry=SOON), Ledger(), ordered=False)
    source.add("orders", Order("acc-0/0"), record_key=b"acc-0")
    await migrated(before, url)
    async with other(before, url, source) as them:
        identity, won = await them.claim()
        app = shop(AtLeastOnce(retry=SOON), ledger)
        async with opened(app, url, source=source, migrate=False) as at:
            await at.until(lambda: at.watch.of("acc-0/0"))
            assert source.committed("orders") == 0
            await them.complete(identity, won)
            await at.rest()
            assert source.committed("orders") == 1
    assert ledger.starts == {}


async def test_too_many_in_lanes_stay_in_hand(url):
    """Beyond the limit nothing is landed or acknowledged, until there is room again."""
    source, ledger = ListSource(in_hand_limit=10), Ledger()
    feed(source, lanes=1, each=30, do={"acc-0/0": "raise"})
    async with opened(shop(AtMostOnce(), ledger), url, source=source) as at:
        lander = at.running.runtime.lander
        lander._limit = 5
        lander._room.clear()

        async def full() -> bool:
            return len(lander.waiting()) == 10 and len(await at.entries()) == source.committed("orders") >= 5

        await at.until(full)
        assert len(await at.entries()) < 20
        await at.until(lambda: at.entries(State.IN_DOUBT))
        [doubt] = await at.entries(State.IN_DOUBT)
        assert await at.store.operator.resolve(Resolution(doubt.identity, doubt.token, State.DONE, "seen"))
        await finished(at)
    assert ledger.done["acc-0"] == list(range(1, 30))


async def test_an_outage_changes_no_order(url):
    """What could not be landed is landed later, in its order; a lost reply lands nothing twice."""
    source, ledger, weather = ListSource(batch=7), Ledger(), Weather()
    chance = random.Random(7)
    weather.lose = lambda verb, args: verb in {"land", "due", "turn"} and chance.random() < 0.2
    app = shop(AtLeastOnce(retry=SOON), ledger)
    async with opened(app, url, source=source, wrap=weather.wrap, reconnect=False) as at:
        feed(source, lanes=3, each=4)
        weather.down = True
        await weather.next_refusal()
        weather.down = False
        feed_from(source, lanes=3, first=4, each=8)
        await at.until(lambda: source.settled)
        weather.lose = lambda verb, args: False
        await at.until(
            lambda: all(dict.fromkeys(ledger.done[f"acc-{n}"]).keys() == set(range(8)) for n in range(3))
        )
    for lane in range(3):
        assert list(dict.fromkeys(ledger.done[f"acc-{lane}"])) == list(range(8))


def feed_from(source: ListSource, *, lanes: int, first: int, each: int) -> None:
    for number in range(first, each):
        for lane in range(lanes):
            key = f"acc-{lane}"
            source.add("orders", Order(f"{key}/{number}"), partition=lane % 3, record_key=key.encode())


@pytest.mark.parametrize("mode", ["Transactional", "AtLeastOnce"])
async def test_two_workers_and_a_rebalance(url, mode):
    """Two processes on one store, the same log delivered to both, again and again: still one order."""
    ledger, chance = Ledger(), random.Random(11)
    fails = {f"acc-{chance.randrange(6)}/{chance.randrange(10)}": chance.randrange(1, 3) for _ in range(12)}
    app = shop(MODES[mode](), ledger, fails=fails)
    await migrated(app, url)
    async with contextlib.AsyncExitStack() as stack:
        sources = [ListSource(batch=9), ListSource(batch=13)]
        for source in sources:
            feed(source, lanes=6, each=10)
        shops = [
            await stack.enter_async_context(opened(app, url, source=source, migrate=False))
            for source in sources
        ]
        for _ in range(3):
            await asyncio.sleep(0)
            await asyncio.gather(*(source.redeliver() for source in sources))
        for at in shops:
            await finished(at)
    assert ledger.in_order(lanes=6, each=10)
    assert ledger.most == 1
    if mode == "Transactional":
        assert await select(url, "select count(*), count(distinct id) from effects") == [(60, 60)]


async def test_what_a_rebalance_hands_over_late_is_not_landed_ahead(url):
    """Some wait to be landed when a rebalance begins, and the last poll before it returns: no gap between them."""
    source, ledger, weather = ListSource(), Ledger(), Weather()
    app = shop(AtLeastOnce(retry=SOON), ledger)
    async with opened(app, url, source=source, wrap=weather.wrap, reconnect=False) as at:
        lander = at.running.runtime.lander
        weather.down = True
        feed_from(source, lanes=1, first=0, each=2)
        await at.until(lambda: len(lander.waiting()) == 2)
        await source.begin_rebalance()
        feed_from(source, lanes=1, first=2, each=4)
        await at.until(lambda: len(source.delivered) == 4)
        weather.down = False
        await at.until(lambda: source.settled or 3 in ledger.done["acc-0"])
        await source.redeliver()
        await finished(at)
    assert ledger.in_order(lanes=1, each=4)


async def test_what_is_not_held_any_more_does_not_pile_up(url):
    """Rebalances while the store is away: of each delivery only the last arrival waits, and is landed."""
    source, ledger, weather = ListSource(), Ledger(), Weather()
    app = shop(AtLeastOnce(retry=SOON), ledger)
    feed(source, lanes=1, each=3)
    async with opened(app, url, source=source, wrap=weather.wrap, reconnect=False) as at:
        weather.down = True
        lander = at.running.runtime.lander

        def waiting() -> list[bool]:
            return [work.delivery is not None and source.held(work.delivery) for work in lander.waiting()]

        for _ in range(3):
            await at.until(lambda: any(waiting()))
            assert waiting() == [True] * 3
            await source.redeliver()
        weather.down = False
        await finished(at)
    assert ledger.in_order(lanes=1, each=3)


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_stands_in_line(url, mode):
    """With nobody before it, it runs now; else it is in flight, and its result is there once its turn has come."""
    ledger = Ledger()
    app = shop(MODES[mode](), ledger, fails={"acc-0/1": 3})
    [handler] = app.handlers.declared
    async with opened(app, url) as at:
        call = at.running.call
        assert await call(handler.function, Order("acc-0/0"), ordering_key="acc-0") is None
        await at.running.publish("orders", Order("acc-0/1"), ordering_key="acc-0")
        with pytest.raises(InFlight, match="received"):
            await call(handler.function, Order("acc-0/2"), ordering_key="acc-0")
        assert await call(handler.function, Order("acc-1/0"), ordering_key="acc-1") is None
        await finished(at)
        assert await call(handler.function, Order("acc-0/2"), ordering_key="acc-0") is None
    assert ledger.done == {"acc-0": [0, 1, 2], "acc-1": [0]}
    assert ledger.most == 1


def test_a_store_without_lanes_is_refused_at_start():
    """Before anything is consumed, by name, with the mend."""
    app = shop(AtMostOnce(), Ledger())
    bare = SimpleNamespace(capabilities=SimpleNamespace(lanes=False, transactions=False, dialect=""))
    with pytest.raises(
        SettingsError, match=r"orders is ordered, redis://x keeps no order; use postgresql://"
    ):
        check_store(bare, "redis://x", app.handlers.declared)
    check_store(MemoryStore("shop"), "memory:", app.handlers.declared)
