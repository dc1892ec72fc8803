"""Who is taken for dead, over real stores: a worker that lapsed, by everybody; one that left, by nobody."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from consumer import App, AtMostOnce, Key
from consumer.ports.store import Store
from consumer.stores import open_store
from tests.path.kit import Order, Shop, opened


@pytest.fixture
def app() -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def take(order: Order) -> None: ...

    return app


async def dies(store: Store, url: str, worker: int) -> None:
    """Let a worker that has claimed nothing be gone without a word, as SIGKILL and its time-to-live make it."""
    if url.startswith("sqlite"):
        workers: Any = store.workers
        workers.drop(worker)
        return
    database = await asyncpg.connect(url)
    await database.execute(
        "update consumer_workers set ttl = 0, beat_at = beat_at - interval '8 days' where id = $1", worker
    )
    await database.close()


def alarms(process: Shop) -> int:
    runtime: Any = process.running.runtime
    return int(runtime._caution.alarms)


async def test_workers_that_come_and_leave_are_no_alarm(app: App, url: str) -> None:
    """Before anybody has seen them, after one look, after two.

    Mutant: who leaves before it was compared twice is dead.
    """
    beside = open_store(url, app.name)
    async with opened(app, url, consume=False) as a, opened(app, url, consume=False, migrate=False) as b:
        await beside.open()
        for looks in range(3):
            worker = await beside.workers.open(600, "one of a rollout")
            for _ in range(looks):
                await a.running.runtime.sweep.adopt()
                await b.running.runtime.sweep.adopt()
            await beside.workers.close(worker)
            for process in (a, b):
                await process.running.runtime.sweep.adopt()
                assert alarms(process) == 0
                assert process.running.runtime.sweep.lapses == 0
    await beside.close()


async def test_everybody_notices_a_death_though_one_has_found_it_and_it_held_nothing(
    app: App, url: str
) -> None:
    """Also when its last beat is so old that whoever opens a worker next might have forgotten it."""
    beside = open_store(url, app.name)
    async with opened(app, url, consume=False) as a, opened(app, url, consume=False, migrate=False) as b:
        await beside.open()
        worker = await beside.workers.open(600, "to be killed")
        await dies(beside, url, worker)
        await a.running.runtime.sweep.adopt()
        await beside.workers.close(await beside.workers.open(600, "whoever opens forgets the old ones"))
        await b.running.runtime.sweep.adopt()
        assert [alarms(process) for process in (a, b)] == [1, 1]
    await beside.close()


async def test_a_process_that_starts_later_notices_whom_it_finds_dead(app: App, url: str) -> None:
    """And the next one does not: that death is history, and whoever found it was careful."""
    beside = open_store(url, app.name)
    async with opened(app, url, consume=False):
        pass  # the tables are made
    await beside.open()
    await dies(beside, url, await beside.workers.open(600, "killed while nobody else was there"))
    async with opened(app, url, consume=False, migrate=False) as heir:
        assert alarms(heir) == 1
        async with opened(app, url, consume=False, migrate=False) as later:
            assert alarms(later) == 0
    await beside.close()
