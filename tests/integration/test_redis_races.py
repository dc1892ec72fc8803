"""Moments between two calls, made long: what another process does in them is not undone by the second."""

from __future__ import annotations

import asyncio

import pytest

from consumer.entry import Kind, State
from consumer.errors import StoreUnavailable
from consumer.stores.redis import RedisStore
from consumer.stores.redis.history import History
from consumer.testing.contract.samples import Process, claim, only, outgoing
from tests.integration.rediskit import Server, needed


@pytest.fixture(scope="module", autouse=True)
def packages():
    needed()


@pytest.fixture
async def handles(primary: Server):
    """Two, as two processes would have them."""
    made = [RedisStore(primary.url, "shop") for _ in range(2)]
    for store in made:
        await store.migrate()
        await store.open()
    yield made
    for store in made:
        await store.close()


async def test_who_slept_in_its_opening_stays_closed(handles, monkeypatch):
    """Between the worker's row and the buckets that it may claim in, others take it for dead: what it claimed later nobody
    would ever adopt, for it is known to hold nothing.

    Mutant: the buckets are told that it is open, whatever they know of it.
    """
    here, there = handles
    commands = here._calls.commands

    async def slept(what):
        monkeypatch.setattr(here._calls, "commands", commands)
        await there.workers.lapse()
        return await commands(what)

    monkeypatch.setattr(here._calls, "commands", slept)
    worker = await here.workers.open(0.0, "slow")
    assert not await here.workers.beat(worker)
    with pytest.raises(StoreUnavailable, match="closed"):
        await here.inbox.turn(worker, [], [claim()])
    assert await there.operator.entries(states=[State.RUNNING]) == []
    awake = Process(there, await there.workers.open(600, "awake"))
    assert (await awake.win(claim())).attempt == 1


async def test_who_forgets_what_it_knew_of_the_buckets_learns_all_of_it_again():
    """One call learns of a bucket that it does not know, another finds out meanwhile that the rest is out of date."""
    asked: list[int] = []
    history = History(_Cluster(asked))  # type: ignore[arg-type]  # it answers the one call that is made here

    async def work() -> list[object]:
        return [history.seen(bucket, 1) for bucket in (0, 1)]

    await history.claiming([0], lambda: asyncio.sleep(0))
    assert asked == [1]
    both = asyncio.create_task(history.claiming([0, 1], work))
    await asyncio.sleep(0)
    history.forget()
    assert await both == [("e", 0, 0), ("e", 0, 0)]


class _Cluster:
    """Answers a little later; remembers how much it was asked each time."""

    buckets = 2

    def __init__(self, asked: list[int]) -> None:
        self.asked = asked

    async def commands(self, commands):
        self.asked.append(len(commands))
        await asyncio.sleep(0)
        return [(b"e", None)] * len(commands)


async def test_a_long_lane_is_released_in_parts_and_in_order(handles, primary: Server):
    """A server that moves all of it in one script does nothing else for seconds. What is newer waits behind the rest."""
    store, _ = handles
    here = Process(store, await store.workers.open(600, "relay"))
    names = [f"m-{number}" for number in range(10_500)]
    await publish(here, "first", names[:1])
    head = only(await store.outbox.take(here.worker, 10))
    await store.outbox.park([(head.seq, "refused")])
    await publish(here, "behind", names[1:-1])
    assert [await store.outbox.take(here.worker, 1_000) for _ in range(2)] == [[], []], (
        "all of it is held back"
    )
    assert await store.operator.unpark([head.seq]) == 1
    async with primary.client() as client:
        [free] = [await client.zcard(key) async for key in client.scan_iter("*:o:*")]
    assert free == 10_000
    await publish(here, "newer", names[-1:])
    left = []
    while taken := await store.outbox.take(here.worker, 1_000):
        left += [one.outgoing.value.decode() for one in taken]
        await store.outbox.sent([one.seq for one in taken])
    assert left == names


async def publish(here: Process, key: str, names: list[str]) -> None:
    win = await here.win(claim(key))
    await here.ended(claim(key), win.token, Kind.COMPLETE, outgoing=[outgoing(name) for name in names])
