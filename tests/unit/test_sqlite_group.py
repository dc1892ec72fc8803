"""What is SQLite's own in a group: the gate, the driver's connection, arguments, statements that end a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
import sqlite3
import threading
import uuid

import pytest

from consumer.entry import State, Won
from consumer.errors import CommitUnknown, GroupFault, StoreUnavailable, WritesRefused
from consumer.stores.sqlite import SqliteStore
from consumer.stores.sqlite.faults import fault
from consumer.stores.sqlite.values import bound
from consumer.testing.contract.samples import claim

OWN = [
    "create table if not exists ledger (name text unique on conflict rollback, amount)",
    "create table if not exists strict_ledger (name text unique, amount)",
]


@pytest.fixture
async def store(tmp_path):
    made = SqliteStore(str(tmp_path / "shop.db"), "shop")
    await made.migrate(OWN)
    yield made
    await made.close()


@pytest.fixture
async def group(store):
    opened = await store.groups.open()
    yield opened
    await opened.rollback()


async def nothing(store):
    reader = await store.groups.open()
    rows = await reader.fetch("select * from ledger", [])
    rows += await reader.fetch("select * from strict_ledger", [])
    await reader.rollback()
    return rows == [] and await store.operator.entries() == []


async def test_a_commit_through_the_driver_is_undone(store, group):
    await group.claim([claim()])
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        group.driver.execute("commit")
    with pytest.raises(GroupFault, match="tried to commit"):
        await group.seal()
    await group.rollback()
    assert await nothing(store)


async def test_the_driver_of_one_group_does_not_spoil_the_next(store, group):
    await group.claim([claim("a")])
    with contextlib.suppress(sqlite3.Error):
        group.driver.execute("END")
    await group.rollback()
    following = await store.groups.open()
    await following.claim([claim("b")])
    await following.seal()
    await following.commit()
    assert [entry.key for entry in await store.operator.entries()] == [b"b"]


async def test_an_error_that_ends_the_transaction_ends_the_group(store, group):
    await group.claim([claim()])
    insert = "insert into ledger (name, amount) values ($1, $2)"
    await group.execute(insert, ["a", 1])
    with pytest.raises(sqlite3.IntegrityError):
        await group.execute(insert, ["a", 2])
    # SQLite has rolled back and is in autocommit mode: this would be committed at once, without its entry.
    with pytest.raises(GroupFault, match="ended by a handler's statement"):
        await group.execute(insert, ["b", 3])
    with pytest.raises(GroupFault):
        await group.seal()
    await group.rollback()
    assert await nothing(store)


async def test_after_a_rollback_nothing_commits_by_itself(store, group):
    await group.claim([claim()])
    await group.execute("rollback", [])
    for sql in ("begin", "insert into strict_ledger (name) values ('a')"):
        with pytest.raises(GroupFault):
            await group.execute(sql, [])
    await group.rollback()
    assert await nothing(store)


async def test_a_failed_statement_leaves_the_rest_usable(store, group):
    await group.claim([claim()])
    insert = "insert into strict_ledger (name, amount) values ($1, $2)"
    await group.execute(insert, ["a", 1])
    with pytest.raises(sqlite3.IntegrityError):
        await group.executemany(insert, [["b", 2], ["a", 3], ["c", 4]])
    await group.execute(insert, ["d", 5])
    await group.seal()
    await group.commit()
    reader = await store.groups.open()
    names = [row["name"] for row in await reader.fetch("select name from strict_ledger order by name", [])]
    await reader.rollback()
    assert names == ["a", "b", "d"]  # an executemany stops at the row that fails; what was before it stays


async def test_an_unsealed_group_does_not_commit(store, group):
    await group.claim([claim()])
    with pytest.raises(GroupFault, match="not sealed"):
        await group.commit()
    assert await nothing(store)


async def test_a_row_that_somebody_removed_is_missed(store, group):
    await group.claim([claim("a"), claim("b")])
    await group.execute("delete from consumer_inbox where key = $1", [b"b"])
    with pytest.raises(GroupFault, match="entries of this group are gone"):
        await group.fill([(claim("a").identity, b""), (claim("b").identity, b"")], [], [])


async def test_rows_are_counted_whatever_the_statement_begins_with(group):
    with_ = "with new (name) as (values ($1), ($2)) insert into strict_ledger (name) select name from new"
    assert await group.execute(with_, ["a", "b"]) == 2
    returning = "update strict_ledger set amount = $1 returning name"
    assert await group.execute(returning, [1]) == 2
    assert await group.execute("with t as (select 1) select * from t", []) == 0
    assert await group.execute("create table made (n)", []) == 0


async def test_an_ended_group_does_nothing(store, group):
    await group.rollback()
    await group.rollback()
    for call in (group.claim([]), group.execute("select 1", []), group.seal(), group.commit()):
        with pytest.raises(GroupFault, match="has ended"):
            await call
    assert await store.groups.open()


async def test_a_cancelled_statement_is_interrupted(store, group):
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    await group.claim([claim()])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await group.fetch(endless, [])
    async with asyncio.timeout(10):
        await group.rollback()
        assert await nothing(store)


async def test_a_statement_that_had_not_begun_when_it_was_cancelled_is_interrupted_too(store, group):
    """The thread is a moment behind: an interrupt before the statement's first step would be none.

    Mutant: one interrupt, and the endless statement keeps the file's only writer for ever.
    """
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    await group.claim([claim()])
    released = threading.Event()
    behind = store._grouped._hop.submit(released.wait)
    statement = asyncio.create_task(group.fetch(endless, []))
    await asyncio.sleep(0)
    statement.cancel()
    await asyncio.gather(statement, return_exceptions=True)
    released.set()
    await behind
    over = asyncio.create_task(group.rollback())
    try:
        done, _ = await asyncio.wait([over], timeout=5)
        assert done, "the statement goes on"
    finally:
        while not over.done():
            group._connection.interrupt()
            await asyncio.sleep(0.01)
    assert await nothing(store)


@pytest.mark.parametrize("committed", [False, True])
async def test_a_commit_of_which_the_disk_does_not_tell(store, group, committed):
    await group.claim([claim()])
    await group.seal()
    group._connection = _Failing(group._connection, committed=committed)
    with pytest.raises(CommitUnknown):
        await group.commit()
    assert await group.outcome() is committed
    assert [entry.state for entry in await store.operator.entries()] == [State.DONE] * committed
    following = await store.groups.open()
    await following.claim([claim("next")])
    await following.seal()
    await following.commit()


class _Failing:
    """A connection whose COMMIT ends in an I/O error, after or before it has happened."""

    def __init__(self, connection, *, committed):
        self.connection = connection
        self.committed = committed

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, sql):
        assert sql == "commit"
        if self.committed:
            self.connection.execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR | (4 << 8)
        raise error


async def test_a_store_that_fails_beneath_a_handler_is_not_its_fault(store, group):
    group._connection = _Failing(group._connection, committed=False)
    group._connection.execute = lambda *_: (_ for _ in ()).throw(_full())
    with pytest.raises(StoreUnavailable, match="full"):
        await group.execute("insert into strict_ledger (name) values ('a')", [])


async def test_a_disk_that_is_full_at_the_commit_is_nobodys_fault(store, group):
    """Nothing has happened, and once there is room it goes on."""
    [answer] = await group.claim([claim("k-1")])
    assert isinstance(answer, Won)
    group._connection = _Full(group._connection)
    await group.seal()
    with pytest.raises((StoreUnavailable, GroupFault), match="full") as told:
        await group.commit()
    assert told.type is WritesRefused
    await group.rollback()
    assert await store.operator.find(b"k-1") == []
    again = await store.groups.open()
    assert isinstance((await again.claim([claim("k-1")]))[0], Won)
    await again.rollback()


class _Full(_Failing):
    def __init__(self, connection):
        super().__init__(connection, committed=False)

    def execute(self, sql, *values):
        if sql == "commit":
            raise _full()
        return self.connection.execute(sql, *values)


@pytest.mark.parametrize(
    "code",
    [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY],
    ids=["busy", "locked", "full", "readonly"],
)
def test_a_file_that_takes_no_write_is_told_from_one_that_is_away(code):
    error = sqlite3.OperationalError("no")
    error.sqlite_errorcode = code
    assert type(fault(error, "shop.db")) is WritesRefused
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    assert type(fault(error, "shop.db")) is StoreUnavailable


def _full():
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_arguments_are_bound_by_their_number():
    assert bound([]) == {}
    assert bound(["a", 1]) == {"1": "a", "2": 1}
    assert list(bound(range(70)))[-1] == "70"


async def test_values_that_sqlite_has_no_type_for(group):
    day = dt.date(2024, 2, 29)
    at = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)
    some = uuid.UUID(int=7)
    args = [day, at, dt.time(1, 2), some, decimal.Decimal("10.50"), True, None, b"\0\xff", 1.5]
    [row] = await group.fetch("select " + ", ".join(f"${n}" for n in range(1, len(args) + 1)), args)
    assert list(row) == [
        "2024-02-29",
        "2024-02-29T12:30:00+00:00",
        "01:02:00",
        str(some),
        "10.50",
        1,
        None,
        b"\0\xff",
        1.5,
    ]
    with pytest.raises(sqlite3.Error):
        await group.fetch("select $1", [["a list"]])


async def test_asking_for_an_outcome_touches_nobody_elses_transaction(store, group):
    """The group that asks is over, and the connection is the next one's by then."""
    await group.claim([claim("lost")])
    await group.seal()
    group._connection = _Failing(group._connection, committed=True)
    with pytest.raises(CommitUnknown):
        await group.commit()
    following = await store.groups.open()
    await following.claim([claim("next")])
    insert = "insert into strict_ledger (name) values ($1)"
    await following.execute(insert, ["a"])
    answers = await asyncio.gather(group.outcome(), return_exceptions=True)
    assert answers[0] is True
    await following.execute(insert, ["b"])
    await following.seal()
    await following.commit()
    assert [entry.key for entry in await store.operator.entries()] == [b"lost", b"next"]
