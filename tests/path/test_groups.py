"""Groups of Transactional deliveries in one commit: a failure is its own, and nobody's rows are lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from consumer import App, Backoff, Context, Key, Transactional, Tx
from consumer.errors import ConsumerError
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource

GOOD = [f"g{number:02}" for number in range(20)]
DRIVER_ERRORS = (sqlite3.Error, asyncpg.PostgresError)

Act = Callable[[Order, Context, Tx], Awaitable[None]]


def shop(act: Act, *, attempts: int = 2, timeout: float = 5.0) -> App:
    """An app whose handler writes its row, does what the test says, and publishes."""
    app = App("shop")

    @app.on(
        "orders", key=Key.field("id"), mode=Transactional(retry=Backoff(attempts, first=0)), timeout=timeout
    )
    async def take(order: Order, ctx: Context, tx: Tx) -> str:
        await tx.execute("insert into effects (id) values ($1)", order.id)
        await act(order, ctx, tx)
        ctx.publish("effects", order.id.encode())
        return order.id

    return app


def at(places: dict[int, str]) -> list[Order]:
    """Twenty good orders with others between them: position in the batch to what it does."""
    orders = [Order(key) for key in GOOD]
    for place, do in sorted(places.items()):
        orders.insert(place, Order(f"bad{place}", do))
    return orders


async def feed(process: Shop, orders: list[Order]) -> None:
    for order in orders:
        process.source.add("orders", order)
    await process.rest()


async def expect(process: Shop, good: list[str], bad: dict[str, str]) -> None:
    """The good are done, with one row and one message each; the bad are in their state and have left nothing."""
    states = await process.states()
    assert {key: state for key, state in states.items() if key not in good} == bad
    assert {key for key, state in states.items() if state == "done"} >= set(good)
    done = sorted(key for key, state in states.items() if state == "done")
    assert await process.effects() == done
    published = Counter(message.value.decode() for message in process.sink.published)
    assert published == Counter(done)
    assert process.source.settled


async def raise_if_bad(order: Order, ctx: Context, tx: Tx) -> None:
    if order.do == "raise":
        raise ValueError("broken")


@pytest.mark.parametrize(
    "places", [{0: "raise"}, {7: "raise"}, {20: "raise"}, {3: "raise", 12: "raise"}], ids=str
)
async def test_the_culprits_fail_alone(places: dict[int, str], url: str) -> None:
    """Mutant: outbox outside the transaction (`attempt`: messages kept of attempts that raise)."""
    async with opened(shop(raise_if_bad), url, source=ListSource()) as process:
        await feed(process, at(places))
        await expect(process, GOOD, {f"bad{place}": "dead" for place in places})
        for place in places:
            entry = await process.entry(f"bad{place}")
            assert (entry.attempts, entry.reason) == (2, "ValueError: broken")


async def test_all_failing(url: str) -> None:
    async with opened(shop(raise_if_bad), url, source=ListSource()) as process:
        await feed(process, [Order(f"bad{number}", "raise") for number in range(10)])
        await expect(process, [], {f"bad{number}": "dead" for number in range(10)})


async def test_an_error_of_the_database_that_a_handler_swallows(url: str, is_postgres: bool) -> None:
    """On Postgres the transaction is aborted for everybody; on SQLite the statement alone has not happened."""

    async def swallow(order: Order, ctx: Context, tx: Tx) -> None:
        if order.do == "swallow":
            with contextlib.suppress(*DRIVER_ERRORS):
                await tx.execute("insert into nowhere values (1)")

    async with opened(shop(swallow), url, source=ListSource()) as process:
        await feed(process, at({5: "swallow", 20: "swallow"}))
        if is_postgres:
            await expect(process, GOOD, {"bad5": "dead", "bad20": "dead"})
            assert (await process.entry("bad5")).attempts == 2
        else:
            await expect(process, [*GOOD, "bad5", "bad20"], {})


async def test_a_handler_that_commits_by_itself(url: str) -> None:
    """Mutant: no gate (`seal` and the first claim without the row whose foreign key points nowhere)."""

    async def commit(order: Order, ctx: Context, tx: Tx) -> None:
        if order.do == "commit":
            with contextlib.suppress(*DRIVER_ERRORS):  # and it says nothing of it
                await _raw(tx, "commit")

    async with opened(shop(commit), url, source=ListSource()) as process:
        await feed(process, at({4: "commit"}))
        await expect(process, GOOD, {"bad4": "dead"})


async def test_a_handler_that_rolls_back_by_itself(url: str) -> None:
    async def rollback(order: Order, ctx: Context, tx: Tx) -> None:
        if order.do == "rollback":
            await _raw(tx, "rollback")

    async with opened(shop(rollback), url, source=ListSource()) as process:
        await feed(process, at({4: "rollback", 20: "rollback"}))
        await expect(process, GOOD, {"bad4": "dead", "bad20": "dead"})


async def test_a_handler_that_begins_another_transaction(url: str) -> None:
    async def begin_again(order: Order, ctx: Context, tx: Tx) -> None:
        if order.do == "again":
            await _raw(tx, "rollback")
            await _raw(tx, "begin")

    async with opened(shop(begin_again), url, source=ListSource()) as process:
        await feed(process, at({4: "again"}))
        await expect(process, GOOD, {"bad4": "dead"})


async def test_tx_and_context_are_of_no_use_after_the_return(url: str) -> None:
    """A task that a handler has left behind can write nothing into its neighbour's transaction.

    Mutant: `Tx` used after return (`attempt`: without `tx.revoke()`, or without `ctx.revoke()`).
    """
    refused: list[str] = []
    left: list[asyncio.Task[None]] = []
    next_runs = asyncio.Event()
    written = asyncio.Event()

    async def leak(order: Order, ctx: Context, tx: Tx) -> None:
        if order.do == "leak":
            left.append(asyncio.create_task(later(order, ctx, tx)))
        elif left and not next_runs.is_set():
            next_runs.set()  # a neighbour's handler is inside the same transaction now
            await written.wait()

    async def later(order: Order, ctx: Context, tx: Tx) -> None:
        await next_runs.wait()
        for use in (
            lambda: tx.execute("insert into effects (id) values ('ghost')"),
            lambda: tx.fetch("insert into effects (id) values ('ghost') returning id"),
        ):
            try:
                await use()
            except ConsumerError as error:
                refused.append(str(error))
        for misuse in (
            lambda: tx.write("insert into effects (id) values ('ghost')"),
            lambda: tx.driver,
            lambda: ctx.publish("effects", b"ghost"),
        ):
            try:
                misuse()
            except ConsumerError as error:
                refused.append(str(error))
        written.set()

    async with opened(shop(leak), url, source=ListSource()) as process:
        await feed(process, at({0: "leak"}))
        await asyncio.gather(*left)
        await expect(process, [*GOOD, "bad0"], {})
    assert len(refused) == 5


async def test_collected_writes_that_fail(url: str) -> None:
    """An `executemany` names no culprit; it is found all the same, and the neighbours' writes are there."""
    app = App("shop")
    app.schema(
        postgres=["create table if not exists numbers (n integer not null)"],
        sqlite=["create table if not exists numbers (n integer not null check (typeof(n) = 'integer'))"],
    )

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(2, first=0)))
    async def take(order: Order, ctx: Context, tx: Tx) -> None:
        tx.write("insert into effects (id) values ($1)", order.id)
        tx.write("insert into numbers (n) values ($1)", None if order.do == "null" else 1)
        ctx.publish("effects", order.id.encode())

    async with opened(app, url, source=ListSource()) as process:
        await feed(process, at({6: "null", 15: "null"}))
        await expect(process, GOOD, {"bad6": "dead", "bad15": "dead"})
        assert "collected write failed" in ((await process.entry("bad6")).reason or "")


async def test_equal_keys_in_one_group(url: str) -> None:
    """Copies are duplicates of the first, another payload is a conflict: a dead letter of its own."""
    async with opened(shop(raise_if_bad), url, source=ListSource()) as process:
        await feed(
            process,
            [
                Order("a"),
                Order("b"),
                Order("a"),
                Order("a", amount=2),
                Order("b"),
                Order("a", amount=2),
                Order("c"),
            ],
        )
        await expect(process, ["a", "b", "c"], {})
        born_dead = [entry for entry in await process.entries() if not entry.keyed]
        assert [(entry.state.word, entry.key) for entry in born_dead] == [("dead", b"a")]
        assert (born_dead[0].reason or "").startswith("conflict: ")
        assert born_dead[0].message is not None


async def test_equal_keys_behind_one_that_fails(url: str) -> None:
    async with opened(shop(raise_if_bad), url, source=ListSource()) as process:
        await feed(process, [Order("a", "raise"), Order("b"), Order("a", "raise"), Order("a", "raise")])
        await expect(process, ["b"], {"a": "dead"})
        assert (await process.entry("a")).attempts == 2


async def test_the_time_box(url: str) -> None:
    """Slow handlers share no long transaction: those whose turn did not come are run by the next groups, once."""
    started: Counter[str] = Counter()

    async def slow(order: Order, ctx: Context, tx: Tx) -> None:
        started[order.id] += 1
        await asyncio.sleep(0.02)

    async with opened(shop(slow), url, source=ListSource()) as process:
        await feed(process, [Order(key) for key in GOOD])
        await expect(process, GOOD, {})
    assert started == Counter(GOOD)


async def _raw(tx: Tx, sql: str) -> None:
    """Run `sql` on the driver's own connection, behind the product's back."""
    answer = tx.driver.execute(sql)
    if asyncio.iscoroutine(answer):
        await answer
