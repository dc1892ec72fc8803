"""One writer at a time: who waits, who does not, and what becomes of a writer that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import signal
import sys

import pytest

from consumer.entry import Kind, Settle, State, Won
from consumer.errors import SettingsError, StoreUnavailable
from consumer.stores.sqlite import SqliteStore
from consumer.testing.contract.samples import HANDLER, claim, landing

CHILD = """
import asyncio, sys
from consumer.stores.sqlite import SqliteStore
from consumer.testing.contract.samples import claim

async def main(path, what):
    store = SqliteStore(path, "shop")
    await store.open()
    worker = await store.workers.open(15.0, "child")
    if what == "worker":
        await store.inbox.turn(worker, [], [claim("in hand")])
    else:
        group = await store.groups.open()
        await group.claim([claim("in a group")])
        await group.seal()
    print(worker, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def path(tmp_path):
    made = str(tmp_path / "shop.db")
    async with handle(made) as store:
        await store.migrate()
    return made


@contextlib.asynccontextmanager
async def handle(path, **options):
    store = SqliteStore(path, "shop", **options)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def child(path, what):
    """A process that has done `what` and then waits; yields it and its worker's number."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, path, what, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def signs_of(path):
    return sorted(file.name for file in pathlib.Path(f"{path}.workers").iterdir())


async def test_a_killed_process_is_noticed_at_once(path):
    async with handle(path) as store, child(path, "worker") as (process, worker):
        here = await store.workers.open(15.0, "here")
        assert await store.workers.lapse() == []
        assert list(await store.workers.others(here)) == [worker]
        process.kill()
        await process.wait()
        assert await store.workers.lapse() == [worker]
        assert [(one.key, one.state) for one in await store.workers.adopt(10)] == [
            (b"in hand", State.IN_DOUBT)
        ]
        assert await store.workers.lapse() == []
        assert await store.workers.beat(here)
        assert signs_of(path) == [str(here)]


async def test_a_stopped_process_is_alive(path):
    """No clock: whoever is only slow is never taken for dead."""
    async with handle(path) as store, child(path, "worker") as (process, worker):
        process.send_signal(signal.SIGSTOP)
        assert await store.workers.lapse() == []
        assert await store.workers.beat(worker)


async def test_a_killed_group_leaves_nothing_and_frees_the_writer(path):
    async with handle(path) as store, child(path, "group") as (process, _):
        waiting = asyncio.create_task(store.arrivals.land([landing()]))
        assert await store.operator.entries() == []  # reads wait for no writer
        assert not waiting.done()
        process.kill()
        await process.wait()
        async with asyncio.timeout(10):
            await waiting
        assert [entry.key for entry in await store.operator.entries()] == [b"k-1"]


async def test_who_has_waited_long_enough_has_done_nothing(path):
    async with handle(path) as writer, handle(path, patience=0.2) as waiting:
        worker = await waiting.workers.open(15.0, "waiting")
        group = await writer.groups.open()
        for call in (waiting.inbox.turn(worker, [], [claim("turn")]), waiting.groups.open()):
            with pytest.raises(
                StoreUnavailable, match=r"shop\.db: others were writing for 0.2 s; nothing was done"
            ):
                await call
        await group.rollback()
        await waiting.arrivals.land([landing("later")])
        assert [entry.key for entry in await waiting.operator.entries()] == [b"later"]


async def test_a_second_group_of_one_process_waits_for_the_first(path):
    async with handle(path, patience=0.2) as store:
        first = await store.groups.open()
        with pytest.raises(StoreUnavailable, match="this process' group was open for 0.2 s"):
            await store.groups.open()
        second = asyncio.create_task(store.groups.open())
        await first.rollback()
        await (await second).rollback()


async def test_a_group_whose_opening_was_cancelled_holds_nothing(path):
    async with handle(path) as writer, handle(path) as store:
        group = await writer.groups.open()
        opening = asyncio.create_task(store.groups.open())
        await asyncio.sleep(0)  # its work is in the thread now
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await group.rollback()
        async with asyncio.timeout(10):
            await (await store.groups.open()).rollback()
            await writer.arrivals.land([landing()])


async def test_a_group_that_was_begun_while_its_opening_was_cancelled(path):
    """The cancellation comes when the thread is done and the caller has not been told yet."""
    async with handle(path) as writer, handle(path) as store:
        for turns in range(1, 20):
            opening = asyncio.create_task(store.groups.open())
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).rollback()
            async with asyncio.timeout(10):
                await writer.arrivals.land([landing(str(turns))])


async def test_a_cancelled_turn_still_commits(path):
    async with handle(path) as writer, handle(path) as store:
        worker = await store.workers.open(15.0, "here")
        group = await writer.groups.open()
        turn = asyncio.create_task(store.inbox.turn(worker, [], [claim()]))
        await asyncio.sleep(0)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await group.rollback()
        again = claim("again")
        await store.inbox.turn(worker, [], [again])  # comes after it in the thread
        assert [entry.key for entry in await store.operator.entries()] == [b"k-1", b"again"]


async def test_writers_take_turns(path):
    """Groups that follow each other without a pause leave room for a turn after each: nobody is starved."""
    async with handle(path) as busy, handle(path) as other:
        worker = await other.workers.open(15.0, "other")
        groups = 0
        done = asyncio.Event()

        async def write():
            nonlocal groups
            while not done.is_set():
                group = await busy.groups.open()
                await group.claim([claim(f"g-{groups}")])
                await asyncio.sleep(0.005)
                await group.seal()
                await group.commit()
                groups += 1

        writing = asyncio.create_task(write())
        try:
            async with asyncio.timeout(30):
                for number in range(20):
                    await other.inbox.turn(worker, [], [claim(f"t-{number}")])
        finally:
            done.set()
            await writing
        assert groups <= 100, "a turn waited for many groups"


async def test_a_beat_waits_for_no_writer(path):
    async with handle(path) as writer, handle(path) as store:
        worker = await store.workers.open(15.0, "here")
        before = await writer.workers.others(0)
        group = await writer.groups.open()
        async with asyncio.timeout(10):
            assert await store.workers.beat(worker)
            assert await writer.workers.beat(worker)  # another handle of the process may do it
            after = await writer.workers.others(0)
        await group.rollback()
        assert after[worker] == before[worker] + 2


async def test_a_handle_closed_without_its_worker_has_died(path):
    async with handle(path) as store:
        async with handle(path) as other:
            worker = await other.workers.open(15.0, "other")
            [won] = (await other.inbox.turn(worker, [], [claim()]))[1]
        assert isinstance(won, Won)
        assert await store.workers.lapse() == [worker]
        [settled], _ = await store.inbox.turn(
            worker, [Settle(claim().identity, won.token, Kind.COMPLETE)], []
        )
        assert settled.value == "ok"  # it is the only knowledge of the outcome
        with pytest.raises(StoreUnavailable, match=f"worker {worker} is closed"):
            await store.arrivals.due(worker, [HANDLER], 1)


async def test_a_fork_is_told_to_open_its_own(path):
    async with handle(path) as store:
        await store.operator.entries()
        reads = store.operator._reads._hop
        reads._process -= 1  # as a fork sees it: the same object, another process
        with pytest.raises(SettingsError, match="do not survive a fork"):
            await store.operator.entries()
        reads._process += 1
