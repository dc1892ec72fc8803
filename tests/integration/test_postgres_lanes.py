"""Lanes between real transactions: nothing is passed, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict

import asyncpg

from consumer.entry import Kind, Settle, State, Taken
from consumer.ports.inbox import Group
from consumer.stores.postgres import PostgresStore
from consumer.testing.contract.samples import HANDLER, landing

LANE = b"acc-1"


async def opened(stack: contextlib.AsyncExitStack, url: str) -> tuple[PostgresStore, int]:
    store = PostgresStore(url, "shop")
    stack.push_async_callback(store.close)
    return store, await store.workers.open(600, "test")


async def locked(url: str) -> None:
    """Wait until somebody waits for an advisory lock."""
    watcher = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(10):
            waits = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
            while not await watcher.fetchval(waits):
                pass  # each look is a round trip
    finally:
        await watcher.close()


async def test_who_lands_while_the_head_ends_is_not_forgotten(postgres_url: str) -> None:
    """The head's transaction has let its lane go and is not committed: a landing waits for it, and is due."""
    async with contextlib.AsyncExitStack() as stack:
        here = PostgresStore(postgres_url, "shop")
        stack.push_async_callback(here.close)
        await here.migrate()
        there, worker = await opened(stack, postgres_url)
        await here.arrivals.land([landing("k-1", lane=LANE)])
        group: Group = await here.groups.open()
        assert len(await group.due([HANDLER], 10)) == 1
        await group.seal()
        landing_too = asyncio.create_task(there.arrivals.land([landing("k-2", lane=LANE)]))
        await asyncio.wait(
            {landing_too, waiting := asyncio.create_task(locked(postgres_url))},
            return_when=asyncio.FIRST_COMPLETED,
        )
        await group.commit()
        await landing_too
        waiting.cancel()
        assert [taken.key for taken in await there.arrivals.due(worker, [HANDLER], 10)] == [b"k-2"]


async def test_two_that_land_behind_each_other_meet_in_no_deadlock(postgres_url: str) -> None:
    """Each ends an entry of one lane and lands into the other's: the second waits before it has locked anything."""
    async with contextlib.AsyncExitStack() as stack:
        store = PostgresStore(postgres_url, "shop")
        stack.push_async_callback(store.close)
        await store.migrate()
        worker = await store.workers.open(600, "test")
        groups: list[Group] = []
        for number in (1, 2):
            await store.arrivals.land([landing(f"k-{number}", lane=b"acc-%d" % number)])
            groups.append(await store.groups.open())
            assert len(await groups[-1].due([HANDLER], 1)) == 1
        first, second = groups
        await first.fill([], [], [landing("k-3", lane=b"acc-2")])
        filling = asyncio.create_task(second.fill([], [], [landing("k-4", lane=b"acc-1")]))
        waiting = asyncio.create_task(locked(postgres_url))
        await asyncio.wait({filling, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waits = not filling.done()
        waiting.cancel()
        if waits:
            await first.seal()
            await first.commit()
        await filling
        assert waits
        await second.seal()
        await second.commit()
        due = await store.arrivals.due(worker, [HANDLER], 10)
        assert {taken.key for taken in due} == {b"k-3", b"k-4"}


class Mill:
    """Lanes that are landed into and worked off at once, and what became of them."""

    def __init__(self, stack: contextlib.AsyncExitStack, url: str, lanes: int, each: int) -> None:
        self.stack, self.url, self.lanes, self.each = stack, url, lanes, each
        self.done: dict[bytes, list[bytes]] = defaultdict(list)
        self.running: set[bytes] = set()
        self.chance = random.Random(5)

    @property
    def at_work(self) -> bool:
        return sum(map(len, self.done.values())) < self.lanes * self.each

    async def land(self, part: int) -> None:
        """Land half of the lanes; each entry again by its former owner, late."""
        store, _ = await opened(self.stack, self.url)
        for number in range(self.each):
            mine = [lane for lane in range(self.lanes) if lane % 2 == part]
            self.chance.shuffle(mine)
            numbers = [(lane, n) for n in range(max(0, number - 2), number + 1) for lane in mine]
            await store.arrivals.land([landing(f"{lane}-{n:03}", lane=b"%d" % lane) for lane, n in numbers])

    async def work(self, taken: Taken, *, fails: bool = False) -> None:
        lane = taken.lane or b""
        assert lane not in self.running, "two of one lane at once"
        self.running.add(lane)
        await asyncio.sleep(0.002)
        if not fails:
            self.done[lane].append(taken.key)
        self.running.discard(lane)

    async def take_groups(self) -> None:
        store, _ = await opened(self.stack, self.url)
        while self.at_work:
            group = await store.groups.open()
            for taken in await group.due([HANDLER], 2):
                await self.work(taken)
            await group.seal()
            await group.commit()

    async def take_turns(self) -> None:
        store, worker = await opened(self.stack, self.url)
        while self.at_work:
            for taken in await store.arrivals.due(worker, [HANDLER], 2):
                fails = self.chance.random() < 0.2 and taken.attempt < 3
                await self.work(taken, fails=fails)
                kind = Kind.RETRY if fails else Kind.COMPLETE
                told = self.chance.random() < 0.5
                settle = Settle(taken.identity, taken.token, kind, "busy", delay=0.0, in_lane=told)
                await store.inbox.turn(worker, [settle], [])


async def test_landers_and_workers_at_once(postgres_url: str) -> None:
    """Two land into few lanes, three take by turns and by groups, some fail: each lane in the order it was landed."""
    lanes, each = 5, 40
    async with contextlib.AsyncExitStack() as stack:
        store = PostgresStore(postgres_url, "shop")
        stack.push_async_callback(store.close)
        await store.migrate()
        mill = Mill(stack, postgres_url, lanes, each)
        async with asyncio.timeout(60), asyncio.TaskGroup() as everybody:
            for part in (0, 1):
                everybody.create_task(mill.land(part))
            everybody.create_task(mill.take_groups())
            for _ in range(2):
                everybody.create_task(mill.take_turns())
        assert mill.done == {
            b"%d" % lane: [b"%d-%03d" % (lane, n) for n in range(each)] for lane in range(lanes)
        }
        assert await store.operator.entries(states=[State.RECEIVED, State.WAITING]) == []
        assert await store.arrivals.in_lanes([HANDLER]) == {}
