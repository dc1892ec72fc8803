"""What a Redis that lost claims is seen to have lost, and what lets it go on."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from consumer.entry import Held, Kind, Settled, State, Won
from consumer.errors import SchemaMismatch, StoreUnavailable
from consumer.stores.redis import RedisStore
from consumer.testing.contract.samples import Process, claim, end, landing, only
from tests.integration.rediskit import Server, needed, replica_of, server


@pytest.fixture(scope="module", autouse=True)
def packages():
    needed()


@contextlib.asynccontextmanager
async def process(url: str, *, migrate: bool = True):
    store = RedisStore(url, "shop")
    try:
        if migrate:
            await store.migrate()
        await store.open()
        yield Process(store, await store.workers.open(600, "test"))
    finally:
        await store.close()


async def reconnected(here: Process) -> None:
    """The first call after a restart finds a dead connection; it drops them all."""
    with contextlib.suppress(StoreUnavailable):
        await here.store.operator.apps()


async def fall_back(primary: Server, here: Process, copy: Path) -> None:
    """The server comes back with an older copy of its data."""
    primary.process.stop()
    shutil.rmtree(primary.folder)
    shutil.copytree(copy, primary.folder)
    primary.start()
    await reconnected(here)


async def copied(primary: Server, here: Process, to: Path) -> Path:
    """Return a copy of the data as they are now."""
    primary.process.stop()
    shutil.copytree(primary.folder, to / "copy")
    primary.start()
    await reconnected(here)
    return to / "copy"


async def refused(here: Process, *words: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"consumer accept-history") as said:
        await here.ask(claim("refused"))
    for word in words:
        assert word in str(said.value)


async def test_an_emptied_store_claims_nothing(primary: Server):
    async with process(primary.url) as here:
        await here.win(claim("lost"))
        await primary.ask("FLUSHALL")
        await refused(here, "empty")
        # everybody sees it: also who knows nothing, and only migrates
        late = RedisStore(primary.url, "shop")
        with pytest.raises(SchemaMismatch, match="consumer migrate"):
            await late.open()
        await late.migrate()
        await late.open()
        with pytest.raises(StoreUnavailable, match="accept-history"):
            await late.workers.open(600, "late")
        assert await late.accept_history("it was a test") == ["the store is empty"]
        worker = await late.workers.open(600, "late")
        assert isinstance(await Process(late, worker).ask(claim("lost")), Won)
        await late.close()


async def test_a_store_that_is_made_anew_is_another_one(primary: Server):
    """Emptied and migrated before anybody looked: its epoch is another."""
    async with process(primary.url) as here, process(primary.url) as idle:
        await here.win(claim())
        await idle.win(claim("other"))
        await primary.ask("FLUSHALL")
        await idle.store.migrate()
        await refused(here, "made anew")
        await refused(idle)


async def test_due_and_new_workers_are_refused_too(primary: Server):
    async with process(primary.url) as here, process(primary.url) as there:
        await here.store.arrivals.land([landing("due")])
        await here.win(claim())
        await there.win(claim("there"))
        await primary.ask("HSET", "consumer:{c0}:meta", "epoch", "another")
        for call in (here.due(), there.due(), here.store.workers.open(600, "new")):
            with pytest.raises(StoreUnavailable, match="accept-history"):
                await call
        # what runs may still say how it ended, and what arrives is kept
        assert await here.store.arrivals.land([landing("more")])
        assert await here.store.operator.entries(states=[State.RUNNING])


async def test_a_restart_is_no_break(primary: Server):
    async with process(primary.url) as here:
        await here.win(claim("before"))
        primary.kill()
        with pytest.raises(StoreUnavailable):
            await here.ask(claim("while away"))
        primary.start()
        assert isinstance(await here.ask(claim("after")), Won)
        assert isinstance(await here.ask(claim("before")), Held)


async def test_an_older_copy_is_known_by_who_lived_through_it(primary: Server, tmp_path: Path):
    """Restored while processes live: what they know of their own claims is more than it knows."""
    async with process(primary.url) as here:
        await here.win(claim("old"))
        copy = await copied(primary, here, tmp_path)
        for number in range(3):
            await here.win(claim(f"lost-{number}"))
        await fall_back(primary, here, copy)
        await refused(here, "older")
        assert await here.store.accept_history("compared with the provider")
        assert isinstance(await here.ask(claim("lost-1")), Won)
        assert isinstance(await here.ask(claim("old")), Held)


async def test_a_worker_that_an_older_copy_does_not_know(primary: Server, tmp_path: Path):
    """Everybody who lives was started after the backup: the sign of life finds it out, and no new worker is made."""
    async with process(primary.url) as here:
        copy = await copied(primary, here, tmp_path)
        worker = await here.store.workers.open(600, "after the backup")
        await Process(here.store, worker).win(claim("lost"))
        await fall_back(primary, here, copy)
        with pytest.raises(StoreUnavailable, match="accept-history"):
            await here.store.workers.beat(worker)
        with pytest.raises(StoreUnavailable, match="accept-history"):
            await here.store.workers.open(600, "new")
        await refused(here)
        await here.store.accept_history("compared")
        assert not await here.store.workers.beat(worker), "a worker of the lost history goes on"
        assert await here.store.workers.open(600, "new")


async def test_a_promoted_replica_is_a_break(primary: Server):
    """It may have lagged behind, and nothing in it can tell: also a process that starts afterwards is told."""
    with server() as replica:
        async with process(primary.url) as here:
            await here.win(claim("copied"))
            await replica_of(primary, replica)
            primary.kill()
            await replica.ask("REPLICAOF", "NO", "ONE")
        async with process(replica.url, migrate=False) as there:
            await refused(there, "promoted")
            store = there.store
            assert await store.accept_history("the primary is gone, compared by hand") == [
                "a replica was promoted, and it may have lagged behind"
            ]
            assert isinstance(await there.ask(claim("new")), Won)
            assert isinstance(await there.ask(claim("copied")), Held)


async def test_who_slept_through_it_all_goes_on_after_the_acceptance(primary: Server):
    """It remembers more than the store knows, and somebody has answered for that."""
    async with process(primary.url) as here, process(primary.url) as asleep:
        for number in range(3):
            await asleep.win(claim(f"s-{number}"))
        await primary.ask("HSET", "consumer:{c0}:w", asleep.worker, 1)
        await here.store.accept_history("rehearsed")
        assert isinstance(await asleep.ask(claim("s-new")), Won)


async def test_a_count_that_fell_back_is_a_break(primary: Server):
    async with process(primary.url) as here:
        for number in range(3):
            await here.win(claim(f"s-{number}"))
        await primary.ask("HSET", "consumer:{c0}:w", here.worker, 2)
        await refused(here, "older")


async def test_settles_go_on_through_a_break(primary: Server):
    async with process(primary.url) as here:
        win = await here.win(claim())
        await primary.ask("HSET", "consumer:{c0}:meta", "broken", "because")
        await refused(here, "because")
        assert await here.settle(end(claim(), win.token, Kind.COMPLETE)) is Settled.OK
        assert only(await here.store.operator.find(b"k-1")).state is State.DONE


async def test_the_reasons_are_kept(primary: Server):
    async with process(primary.url) as here:
        await here.store.accept_history("one")
        await here.store.accept_history("two \ud800")
        assert await primary.ask("LLEN", "consumer:{c0}:history") == 2
