"""The group's transaction on a real server: the gate, faults of handlers, fences."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from consumer.entry import Held, State, Won
from consumer.errors import Contended, GroupFault, StoreUnavailable
from consumer.stores.postgres import PostgresStore, group_entries, groups
from consumer.testing.contract.samples import claim, landing

EFFECTS = "create table if not exists effects (id text primary key)"
ADD = "insert into effects (id) values ($1)"


@pytest.fixture
async def store(postgres_url):
    made = PostgresStore(postgres_url, "shop")
    await made.migrate([EFFECTS])
    await made.open()
    yield made
    await made.close()


async def begun(store, *keys):
    """A group that has claimed these keys."""
    group = await store.groups.open()
    answers = await group.claim([claim(key) for key in keys])
    assert all(isinstance(answer, Won) for answer in answers)
    return group


async def state_of(store, key):
    entries = await store.operator.find(key.encode())
    return entries[0].state if entries else State.ABSENT


async def effects(store):
    group = await store.groups.open()
    rows = await group.fetch("select id from effects order by id", [])
    await group.rollback()
    return [row["id"] for row in rows]


async def finished(group):
    await group.seal()
    await group.commit()


async def seen(url, what):
    """Wait until the server says that it is so; it is asked on a connection of its own."""
    watcher = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while not await watcher.fetchval(f"select exists ({what})"):
                pass  # each look is a round trip
    finally:
        await watcher.close()


# ------------------------------------------------------------------------------------------------------------ the gate


@pytest.mark.parametrize("how", ["driver", "execute"])
async def test_a_commit_by_a_handler_fails_and_undoes_the_group(store, how):
    group = await begun(store, "k-1")
    await group.execute(ADD, ["k-1"])
    with pytest.raises((asyncpg.ForeignKeyViolationError, GroupFault)):
        await (group.driver.execute("commit") if how == "driver" else group.execute("commit", []))
    with pytest.raises(GroupFault):  # outside of a transaction each statement would be a commit of its own
        await group.execute(ADD, ["k-2"])
    with pytest.raises(GroupFault):
        await group.seal()
    await group.rollback()
    assert await state_of(store, "k-1") is State.ABSENT
    assert await effects(store) == []


async def test_a_transaction_that_somebody_else_began_is_not_sealed(store):
    group = await begun(store, "k-1")
    await group.driver.execute("rollback")
    await group.driver.execute("begin")
    await group.execute(ADD, ["k-1"])
    with pytest.raises(GroupFault, match="not the transaction that claimed"):
        await group.seal()
    await group.rollback()
    assert await effects(store) == []
    assert await state_of(store, "k-1") is State.ABSENT


async def test_a_commit_without_a_seal_is_refused(store):
    group = await begun(store, "k-1")
    with pytest.raises(GroupFault):
        await group.commit()
    await group.rollback()
    assert await state_of(store, "k-1") is State.ABSENT


async def test_nothing_is_left_of_the_gate(store):
    await finished(await begun(store, "k-1"))
    group = await store.groups.open()
    assert await group.fetch("select count(*) from consumer_gate", []) == [(1,)]  # its own
    await group.rollback()


# ------------------------------------------------------------------------------------------------- faults of handlers


async def test_a_swallowed_error_is_found_before_the_commit(store):
    group = await begun(store, "k-1")
    await group.execute(ADD, ["k-1"])
    with pytest.raises(asyncpg.UniqueViolationError):  # the driver's own exception reaches the handler
        await group.execute(ADD, ["k-1"])
    with pytest.raises(GroupFault, match="swallowed"):
        await group.seal()
    await group.rollback()
    assert await state_of(store, "k-1") is State.ABSENT


async def test_a_handled_error_in_a_savepoint_is_nobody_elses_affair(store):
    group = await begun(store, "k-1")
    await group.execute(ADD, ["k-1"])
    await group.execute("savepoint s", [])
    with pytest.raises(asyncpg.UniqueViolationError):
        await group.execute(ADD, ["k-1"])
    await group.execute("rollback to savepoint s", [])
    await finished(group)
    assert await effects(store) == ["k-1"]
    assert await state_of(store, "k-1") is State.DONE


async def test_a_transaction_of_the_drivers_is_a_savepoint(store):
    group = await begun(store, "k-1")
    async with group.driver.transaction():
        await group.execute(ADD, ["kept"])
    undone = group.driver.transaction()
    await undone.start()
    await group.execute(ADD, ["undone"])
    await undone.rollback()
    await finished(group)
    assert await effects(store) == ["kept"]


async def test_wrong_arguments_are_the_handlers_affair(store):
    group = await begun(store, "k-1")
    with pytest.raises(asyncpg.InterfaceError):
        await group.execute(ADD, ["one", "too many"])
    await finished(group)
    assert await state_of(store, "k-1") is State.DONE


async def test_a_deferred_constraint_is_checked_by_the_seal(store):
    await store.migrate(
        [
            "create table parent (id int primary key)",
            "create table child (id int references parent deferrable initially deferred)",
        ]
    )
    group = await begun(store, "k-1")
    await group.execute("insert into child (id) values (1)", [])
    with pytest.raises(GroupFault, match="child"):
        await group.seal()
    await group.rollback()
    assert await state_of(store, "k-1") is State.ABSENT


async def test_a_deadlock_is_contention(store):
    await store.migrate(
        ["create table accounts (id int primary key)", "insert into accounts values (1), (2)"]
    )
    lock = "select id from accounts where id = $1 for update"
    one, two = await begun(store, "k-1"), await begun(store, "k-2")
    await one.fetch(lock, [1])
    await two.fetch(lock, [2])
    waiting = asyncio.gather(one.fetch(lock, [2]), two.fetch(lock, [1]), return_exceptions=True)
    faults = [result for result in await waiting if isinstance(result, Exception)]
    assert [type(fault) for fault in faults] == [Contended]
    await one.rollback()
    await two.rollback()


async def test_a_cancelled_statement_costs_the_connection_and_nothing_else(store, postgres_url):
    group = await begun(store, "k-1")
    driver = group.driver
    sleeping = asyncio.create_task(group.execute("select pg_sleep(60)", []))
    # A request to cancel that overtakes its statement is lost: then the driver would wait for all of it.
    await seen(postgres_url, "select from pg_stat_activity where wait_event = 'PgSleep'")
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await group.rollback()
    assert driver.is_closed()
    await finished(await begun(store, "k-1"))  # at once: nothing holds the key
    assert await state_of(store, "k-1") is State.DONE


async def test_settings_of_a_handler_end_with_its_group(store):
    group = await begun(store, "k-1")
    await group.execute("set work_mem = '1234kB'", [])
    connection = group.driver
    await finished(group)
    again = await begun(store, "k-2")
    assert again.driver is connection
    assert await again.driver.fetchval("show work_mem") != "1234kB"
    await again.rollback()


@pytest.mark.parametrize("verb", ["claim", "due", "take"])
async def test_handlers_wait_for_locks_as_their_database_says(store, verb):
    group = await store.groups.open()
    assert await group.driver.fetchval("show lock_timeout") == "100ms"
    match verb:
        case "claim":
            await group.claim([claim("k-1")])
        case "due":
            await group.due(["pay"], 1)
        case _:
            assert not await group.take(claim("k-1").identity, 1)
    assert await group.driver.fetchval("show lock_timeout") == "0"
    await group.rollback()


# ----------------------------------------------------------------------------------------------------- others' keys


async def test_a_foreign_uncommitted_key_is_waited_for_no_longer_than_the_lock_timeout(store):
    holder, loop = await begun(store, "k-1"), asyncio.get_running_loop()
    group = await store.groups.open()
    began = loop.time()
    with pytest.raises(Contended):
        await group.claim([claim("k-1")])
    assert loop.time() - began < 5
    await group.rollback()
    await holder.rollback()


async def test_a_turn_answers_running_for_it_and_wins_the_others(store):
    worker = await store.workers.open(600, "test")
    holder = await begun(store, "held")
    keys = ["a", "b", "held", "y", "z"]
    _, answers = await store.inbox.turn(worker, [], [claim(key) for key in keys])
    assert [type(answer) for answer in answers] == [Won, Won, Held, Won, Won]
    assert answers[2] == Held(State.RUNNING, stored=False)
    await holder.rollback()


async def test_a_group_that_waited_sees_what_the_other_has_committed(store, postgres_url, monkeypatch):
    for module in (groups, group_entries):  # how long a commit takes here is not the question
        monkeypatch.setattr(module, "LOCK_TIMEOUT", "20s")
    holder = await begun(store, "k-1")
    group = await store.groups.open()
    claiming = asyncio.create_task(group.claim([claim("k-0"), claim("k-1")]))
    await seen(postgres_url, "select from pg_locks where locktype = 'transactionid' and not granted")
    await finished(holder)
    zero, one = await claiming
    assert isinstance(zero, Won)
    assert isinstance(one, Held)
    assert one.state is State.DONE
    await group.rollback()


async def test_what_waits_is_given_back_as_it_was(store):
    await store.arrivals.land([landing("k-1")])
    [before] = await store.operator.find(b"k-1")
    group = await store.groups.open()
    [answer] = await group.claim([claim("k-1", stored=True)])
    assert isinstance(answer, Won)
    await group.unclaim([claim("k-1").identity])
    await finished(group)
    [after] = await store.operator.find(b"k-1")
    assert (after.state, after.attempts, after.due_at, after.message) == (
        State.RECEIVED,
        0,
        before.due_at,
        before.message,
    )


# ---------------------------------------------------------------------------------------------------------- fences


async def test_the_server_ends_a_transaction_whose_worker_stands_still(postgres_url):
    store = PostgresStore(postgres_url, "shop", idle=1.0)
    await store.migrate([EFFECTS])
    group = await begun(store, "k-1")
    ended = asyncio.Event()
    group.driver.add_termination_listener(lambda _: ended.set())
    await asyncio.wait_for(ended.wait(), 20)
    with pytest.raises(StoreUnavailable):
        await group.seal()
    await group.rollback()
    assert await state_of(store, "k-1") is State.ABSENT
    await store.close()


async def test_connections_have_their_limits(store):
    group = await store.groups.open()
    names = (
        "idle_in_transaction_session_timeout",
        "statement_timeout",
        "client_connection_check_interval",
    )
    found = {name: await group.driver.fetchval(f"show {name}") for name in names}
    assert found == dict(zip(names, ("1min", "1min", "2s"), strict=True))
    assert await group.driver.fetchval("show application_name") == "consumer shop"
    await group.rollback()


async def test_no_more_groups_than_lanes(store):
    groups = [await store.groups.open() for _ in range(store.groups.lanes)]
    waiting = asyncio.create_task(store.groups.open())
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    await groups[0].rollback()
    for group in (await waiting, *groups[1:]):
        await group.rollback()
