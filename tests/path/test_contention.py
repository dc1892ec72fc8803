"""Two transactions that want the same rows: nobody waits for long, nothing is lost, everything happens once."""

from __future__ import annotations

import asyncio
from collections import Counter

from consumer import App, Backoff, Context, Key, Transactional, Tx
from consumer.message import Envelope
from consumer.path.keying import claim_of, envelope_of
from consumer.stores import open_store
from tests.path.kit import Order, opened, select
from tests.path.listsource import ListSource


def shop() -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(3, first=0)))
    async def take(order: Order, ctx: Context, tx: Tx) -> str:
        await tx.execute("insert into effects (id) values ($1)", order.id)
        return order.id

    return app


async def test_a_key_in_somebody_elses_open_transaction(postgres_url: str) -> None:
    """It is answered as running within the lock time-out, asked again, and done when the other one has gone.

    Mutants: no lock time-out on a foreign key (`Connector.for_calls` and the group's claim); fenced or running delivery
    forgotten (`InHand.ended`: without the push to `_again`); ack a duplicate of running (`endings.permits_ack`).
    """
    app = shop()
    async with opened(app, postgres_url, source=ListSource()) as process:
        other = open_store(postgres_url, app.name)
        await other.open()
        assert other.groups is not None
        group = await other.groups.open()
        [handler] = app.handlers.declared
        process.running.runtime.lanes.paused = True  # the other one must be first
        process.source.add("orders", Order("locked"))
        message = process.source._partitions["orders", 0].log[0]
        envelope = envelope_of(app.name, handler, message)
        assert isinstance(envelope, Envelope)
        await group.claim([claim_of(handler, envelope)])  # its process is slow, or stopped
        process.running.runtime.lanes.paused = False
        for number in range(9):
            process.source.add("orders", Order(f"free{number}"))
        await process.until(lambda: all(process.watch.of(f"free{number}") for number in range(9)))
        await process.until(
            lambda: process.running.runtime.lanes._in_hand._again
        )  # in hand, to be asked again
        assert len(await process.effects()) == 9, "the neighbours did not wait"
        assert process.source.committed("orders") == 0, "the locked one is not acknowledged"
        await group.rollback()
        await process.rest()
        await other.close()
        assert await process.effects() == [*(f"free{number}" for number in range(9)), "locked"]
        assert (await process.entry("locked")).attempts == 1, "nobody's attempt was counted for the waiting"


async def test_a_deadlock_ends_with_everything_done_once(postgres_url: str) -> None:
    """Two lanes update two accounts in opposite order, so that Postgres must break a deadlock."""
    app = App("shop")
    app.schema(
        postgres=[
            "create table if not exists accounts (id text primary key, balance int not null)",
            "insert into accounts values ('x', 0), ('y', 0) on conflict do nothing",
        ]
    )
    inside = {"x": asyncio.Event(), "y": asyncio.Event()}
    meetings = Counter[str]()

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(3, first=0)))
    async def move(order: Order, tx: Tx) -> None:
        first, second = order.do.split("-")
        await tx.execute("update accounts set balance = balance + $2 where id = $1", first, order.amount)
        meetings[first] += 1
        if meetings[first] == 1:  # the first time both wait until both hold their first account
            inside[first].set()
            await asyncio.wait_for(inside[second].wait(), 5)
        await tx.execute("update accounts set balance = balance + $2 where id = $1", second, order.amount)
        await tx.execute("insert into effects (id) values ($1)", order.id)

    async with opened(app, postgres_url, source=ListSource()) as process:
        x, y = _two_lanes(len(process.running.runtime.lanes._lanes))
        for number in range(10):
            process.source.add("orders", Order(f"x{number}", "x-y"), record_key=x)
            process.source.add("orders", Order(f"y{number}", "y-x"), record_key=y)
        await process.rest()
        assert set((await process.states()).values()) == {"done"}
        assert await process.effects() == sorted(
            [*(f"x{n}" for n in range(10)), *(f"y{n}" for n in range(10))]
        )
        balances = await select(postgres_url, "select id, balance from accounts order by id")
    assert balances == [("x", 20), ("y", 20)]
    assert sum(meetings.values()) > 20, "somebody was rolled back: there was a deadlock"


def _two_lanes(lanes: int) -> tuple[bytes, bytes]:
    """Two record keys of different lanes (which ones depends on the process' hash seed)."""
    first = b"0"
    return first, next(key for n in range(1, 1_000) if hash(key := b"%d" % n) % lanes != hash(first) % lanes)


async def test_two_processes_share_a_backlog(url: str) -> None:
    """Two workers on one store, both fed by it: each key's row is there once, whoever came first."""
    keys = [f"k{number:03}" for number in range(120)]
    app, again = shop(), shop()
    async with opened(app, url) as one, opened(again, url, migrate=False) as two:
        half = len(keys) // 2
        await asyncio.gather(
            one.publish("orders", [Order(key) for key in keys[: half + 20]]),
            two.publish("orders", [Order(key) for key in keys[half - 20 :]]),
        )
        await one.rest()
        await two.rest()
        assert await one.effects() == keys
        assert set((await one.states()).values()) == {"done"}
