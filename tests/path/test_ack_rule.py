"""The ack rule: done, or at rest with its bytes in the store. Never while it runs, never while nothing holds the bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer import App, AtMostOnce, Context, Key, Transactional, Tx
from consumer.entry import Entry, State
from consumer.message import Envelope
from consumer.path.keying import claim_of, envelope_of
from consumer.stores import open_store
from tests.path.kit import Order, Shop, migrated, opened
from tests.path.listsource import ListSource
from tests.path.weather import Weather

MODES = [Transactional(), AtMostOnce()]


def shop(mode: Any, starts: list[str], *, hold: asyncio.Event | None = None, timeout: float = 30) -> App:
    """One handler; the key `slow` waits for `hold`."""
    app = App("shop")

    async def act(order: Order) -> None:
        starts.append(order.id)
        if order.id == "slow" and hold is not None:
            await hold.wait()

    if isinstance(mode, Transactional):

        @app.on("orders", key=Key.field("id"), mode=mode, timeout=timeout)
        async def in_transaction(order: Order, ctx: Context, tx: Tx) -> None:
            await act(order)
    else:

        @app.on("orders", key=Key.field("id"), mode=mode, timeout=timeout)
        async def outside(order: Order, ctx: Context) -> None:
            await act(order)

    return app


async def born_dead(process: Shop) -> list[Entry]:
    return [entry for entry in await process.entries(State.DEAD) if not entry.keyed]


@pytest.mark.parametrize("mode", MODES, ids=["Transactional", "AtMostOnce"])
async def test_what_cannot_be_keyed_is_born_dead_once_before_the_ack(mode: Any, url: str) -> None:
    """Mutants: conflict acked without an entry (`held.endings_of_held`: without the landing); the permission in
    `Intake._bear_dead` before the landing.
    """
    starts: list[str] = []
    weather = Weather()
    acked_at_landing: list[int] = []
    source = ListSource()

    def lose(verb: str, args: tuple[Any, ...]) -> bool:
        if verb == "land":
            acked_at_landing.append(len(source.acks))
        return False

    weather.lose = lose
    async with opened(shop(mode, starts), url, source=source, wrap=weather.wrap) as process:
        source.add("orders", Order("a"))
        await process.rest()
        source.add("orders", Order("a", amount=2))  # a conflict
        source.add("orders", b"{ not json")
        source.add("orders", None)  # a tombstone
        source.add("orders", b"")
        source.add("orders", Order("k" * 256))  # over-long
        source.add("orders", Order(""))
        source.add("orders", b'{"do": "return"}')
        source.add("orders", Order("b"))
        await process.rest()
        dead = await born_dead(process)
        assert sorted((entry.reason or "").partition(":")[0] for entry in dead) == [
            "conflict",
            "decode",
            "decode",
            "decode",
            "decode",
            "key",
            "key",
        ]
        assert all(entry.message is not None for entry in dead)
        assert acked_at_landing, "they were landed"
        assert len(source.acks) == 9
        source.add("orders", Order("a", amount=2))  # the same bytes again, elsewhere in the log
        source._partitions["orders", 0].committed = 0
        await source.redeliver()
        await process.rest()
        again = await born_dead(process)
        positioned = {entry.identity for entry in again}
        assert positioned == {entry.identity for entry in dead}, "a redelivery makes no second dead letter"
        assert await process.states() == {"a": "done", "b": "done"}
    assert sorted(starts) == ["a", "b"]


async def test_nothing_is_acknowledged_before_its_dead_letter_is_durable(url: str) -> None:
    starts: list[str] = []
    weather, source = Weather(), ListSource()
    async with opened(
        shop(AtMostOnce(), starts), url, source=source, wrap=weather.wrap, reconnect=False
    ) as process:
        source.add("orders", Order("a"))
        await process.rest()
        weather.down = True
        source.add("orders", b"{ not json")
        await weather.next_refusal()
        while not any(line == ("orders", 0, 1) for line in source.delivered):
            await weather.next_refusal()
        await weather.next_refusal()
        assert source.acks == [("orders", 0, 0)]
        weather.down = False
        await process.rest()
        assert len(await born_dead(process)) == 1
    assert source.acks == [("orders", 0, 0), ("orders", 0, 1)]


async def test_a_body_less_doubt_gets_its_bytes_from_the_redelivery(url: str) -> None:
    """A worker has died with the key in its hands. The entry knows nothing but the key, until the message comes again.

    Mutant: ack of a body-less entry (`held.endings_of_held`: OK without the turn that attaches the bytes).
    """
    starts: list[str] = []
    app = shop(AtMostOnce(), starts)
    await migrated(app, url)
    [handler] = app.handlers.declared
    source = ListSource()
    source.add("orders", Order("a"))
    store = open_store(url, app.name)
    await store.open()
    worker = await store.workers.open(1, "the one that dies")
    envelope = envelope_of(app.name, handler, source._partitions["orders", 0].log[0])
    assert isinstance(envelope, Envelope)
    await store.inbox.turn(worker, [], [claim_of(handler, envelope)])
    await store.close()  # without a goodbye
    weather, acked_when_attached = Weather(), list[bool]()

    def lose(verb: str, args: tuple[Any, ...]) -> bool:
        if verb == "turn" and any(settle.message for settle in args[1]):
            acked_when_attached.append(bool(source.acks))
        return False

    weather.lose = lose
    async with opened(app, url, source=source, wrap=weather.wrap, migrate=False) as process:
        await process.rest()
        entry = await process.entry("a")
        assert (entry.state, entry.message is not None) == (State.IN_DOUBT, True)
        assert source.acks == [("orders", 0, 0)]
        assert acked_when_attached == [False], "the bytes first, then the ack"
    assert starts == []


@pytest.mark.parametrize("mode", MODES, ids=["Transactional", "AtMostOnce"])
async def test_a_duplicate_of_a_running_entry_stays_in_hand(mode: Any, url: str, is_postgres: bool) -> None:
    """Two workers; the second gets a copy of what the first is running. It asks again until it is done.

    Mutants: ack a duplicate of running (`endings.permits_ack`: true for RUNNING); fenced or running delivery forgotten
    (`InHand.ended`: without the push to `_again`).
    """
    if isinstance(mode, Transactional) and not is_postgres:
        pytest.skip("one writer: nobody else's transaction is open while the second one claims")
    starts: list[str] = []
    hold = asyncio.Event()
    one, two = ListSource(), ListSource()
    async with (
        opened(shop(mode, starts, hold=hold), url, source=one) as first,
        opened(shop(mode, starts, hold=hold), url, source=two, migrate=False) as second,
    ):
        one.add("orders", Order("slow"))
        await first.until(lambda: starts == ["slow"])
        two.add("orders", Order("slow"))
        two.add("orders", Order("a"), partition=1)
        two.add("orders", Order("b"), partition=1)
        await second.until(lambda: len(two.acks) == 2)
        runtime = second.running.runtime
        await second.until(lambda: len(runtime.slots._in_hand._again) == 1)
        assert sorted(two.acks) == [("orders", 1, 0), ("orders", 1, 1)], "the copy waits, others do not"
        hold.set()
        await first.rest()
        await second.rest()
        assert two.committed("orders") == 1
    assert starts.count("slow") == 1


async def test_copies_of_a_long_running_key_hold_nobody_up(url: str) -> None:
    """More copies than slots, all of them before the key was claimed: those behind them start all the same.

    Mutant: `Slots._next` that looks no further ahead while as many wait as there are slots.
    """
    starts: list[str] = []
    hold = asyncio.Event()
    source = ListSource()
    async with opened(shop(AtMostOnce(), starts, hold=hold), url, source=source, slots=2) as process:
        for _ in range(6):
            source.add("orders", Order("slow"))
        await process.until(lambda: starts == ["slow"])
        for number in range(600):  # more than one look ahead
            source.add("orders", Order(f"k{number}"), partition=1)
        await process.until(lambda: source.committed("orders", 1) == 600)
        assert source.committed("orders", 0) == 0
        hold.set()
        await process.rest()
    assert starts.count("slow") == 1


async def test_a_full_handler_holds_no_other_up(url: str) -> None:
    """Its `concurrency` is one, and it is slow; what came in behind its backlog is another handler's."""
    starts: list[str] = []
    hold = asyncio.Event()
    app = App("shop")

    @app.on("capped", key=Key.field("id"), mode=AtMostOnce(), concurrency=1)
    async def capped(order: Order) -> None:
        starts.append(order.id)
        await hold.wait()

    @app.on("free", key=Key.field("id"), mode=AtMostOnce())
    async def free(order: Order) -> None:
        starts.append(order.id)

    source = ListSource()
    async with opened(app, url, source=source, slots=4) as process:
        for number in range(20):
            source.add("capped", Order(f"c{number}"))
        await process.until(lambda: starts == ["c0"])
        for number in range(20):
            source.add("free", Order(f"f{number}"))
        await process.until(lambda: source.committed("free") == 20)
        assert starts[0] == "c0"
        assert not any(key.startswith("c") for key in starts[1:]), "one at a time"
        hold.set()
        await process.rest()
    assert len(starts) == 40


@pytest.mark.parametrize("first", ["quick", "slow"])
async def test_several_handlers_on_one_topic(first: str, url: str) -> None:
    """Acknowledged when both permit it, and not when the first does."""
    app = App("shop")
    hold = asyncio.Event()
    done: list[str] = []

    @app.on(
        "orders", key=Key.field("id"), mode=Transactional() if first == "quick" else AtMostOnce(), name="one"
    )
    async def one(order: Order) -> None:
        done.append("one")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce(), name="two")
    async def two(order: Order) -> None:
        await hold.wait()
        done.append("two")

    source = ListSource()
    async with opened(app, url, source=source) as process:
        source.add("orders", Order("a"))
        await process.until(lambda: _state(process, "one", State.DONE))
        await process.until(lambda: _state(process, "two", State.RUNNING))
        assert source.acks == []
        hold.set()
        await process.rest()
        assert source.acks == [("orders", 0, 0)]
    assert done == ["one", "two"]


async def _state(process: Shop, handler: str, state: State) -> bool:
    return any(e.handler == handler and e.state is state for e in await process.entries())


async def test_one_handler_cannot_decode_what_another_can(url: str) -> None:
    """The dead letter of the one does not acknowledge for the other."""
    app = App("shop")
    hold = asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce(), name="strict")
    async def strict(order: Order) -> None: ...

    @app.on("orders", key=Key.header("id"), mode=AtMostOnce(), name="raw")
    async def raw(order: bytes) -> None:
        await hold.wait()

    source = ListSource()
    async with opened(app, url, source=source) as process:
        source.add("orders", b"{ not json", headers=(("id", b"a"),))
        await process.until(lambda: _state(process, "strict", State.DEAD))
        await process.until(lambda: _state(process, "raw", State.RUNNING))
        assert source.acks == []
        hold.set()
        await process.rest()
        assert source.acks == [("orders", 0, 0)]


@pytest.mark.parametrize("mode", MODES, ids=["Transactional", "AtMostOnce"])
async def test_a_rebalance_in_the_middle(mode: Any, url: str) -> None:
    """Partitions are lost and come back while a handler runs: no key twice, and nothing is forgotten."""
    starts: list[str] = []
    hold = asyncio.Event()
    source = ListSource()
    async with opened(shop(mode, starts, hold=hold), url, source=source) as process:
        for key in ("a", "slow", "b"):
            source.add("orders", Order(key))
        await process.until(lambda: "slow" in starts)
        revoking = asyncio.create_task(source.redeliver())
        await asyncio.sleep(0)
        hold.set()
        await revoking
        source.add("orders", Order("c"))
        await process.rest()
        assert set((await process.states()).values()) == {"done"}
    assert sorted(starts) == ["a", "b", "c", "slow"]
