"""`Tx` over a group that writes down what it is asked: order, batching, savepoints, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from consumer import ConsumerError, StoreUnavailable, Tx
from consumer.declare.tx import Writes
from consumer.errors import Contended, GroupFault, WriteFault


class Driver:
    """A driver's error comes out of a group as it is."""

    class Error(Exception): ...


class Group:
    """Writes down every call; fails at the statements it is told to."""

    def __init__(self, **fails: Exception) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails
        self.driver = Driver()

    async def execute(self, sql: str, args: Sequence[Any]) -> int:
        return self._said("execute", sql, *args)

    async def fetch(self, sql: str, args: Sequence[Any]) -> list[Any]:
        self._said("fetch", sql, *args)
        return [{"n": 1}, {"n": 2}] if sql != "nothing" else []

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._said("executemany", sql, *rows)

    def _said(self, verb: str, sql: str, *args: Any) -> int:
        self.calls.append((verb, sql, *args))
        if sql in self.fails:
            raise self.fails[sql]
        return len(self.calls)


def of(group: Group) -> tuple[Tx, Writes]:
    writes = Writes()
    return Tx(group, writes), writes


# --- now --------------------------------------------------------------------------------------------------------------


async def test_what_is_awaited_happens_now():
    group = Group()
    tx, _ = of(group)
    assert await tx.execute("insert", 1, "a") == 1
    assert await tx.fetch("select", 2) == [{"n": 1}, {"n": 2}]
    assert await tx.fetch_one("select") == {"n": 1}
    assert await tx.fetch_one("nothing") is None
    assert group.calls == [
        ("execute", "insert", 1, "a"),
        ("fetch", "select", 2),
        ("fetch", "select"),
        ("fetch", "nothing"),
    ]
    assert tx.driver is group.driver


async def test_a_driver_s_error_comes_out_as_it_is():
    fault = Driver.Error("duplicate key")
    tx, _ = of(Group(insert=fault))
    with pytest.raises(Driver.Error) as caught:
        await tx.execute("insert")
    assert caught.value is fault


# --- later ------------------------------------------------------------------------------------------------------------


async def test_writes_go_out_in_order_and_equal_neighbours_together():
    group = Group()
    tx, writes = of(group)
    for sql, arg in [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("a", 5), ("a", 6)]:
        tx.write(sql, arg, "x")
    assert (group.calls, len(writes)) == ([], 6)
    await tx.flush()
    assert group.calls == [
        ("executemany", "a", (1, "x"), (2, "x")),
        ("execute", "b", 3, "x"),
        ("executemany", "a", (4, "x"), (5, "x"), (6, "x")),
    ]
    await tx.flush()
    assert (len(group.calls), len(writes)) == (3, 0)


@pytest.mark.parametrize("verb", ["execute", "fetch", "fetch_one"])
async def test_whatever_is_awaited_sends_first_what_the_whole_group_has_queued(verb):
    group = Group()
    writes = Writes()
    first, second = Tx(group, writes), Tx(group, writes)
    first.write("insert", 1)
    second.write("insert", 2)
    await getattr(second, verb)("select")
    assert [call[:2] for call in group.calls] == [
        ("executemany", "insert"),
        ("fetch" if verb != "execute" else "execute", "select"),
    ]


async def test_a_failed_write_says_which_statement_and_keeps_the_driver_s_error():
    fault = Driver.Error("duplicate key")
    group = Group(**{"insert  into\n t": fault})
    tx, writes = of(group)
    tx.write("update", 1)
    tx.write("insert  into\n t", 1)
    tx.write("delete", 1)
    with pytest.raises(WriteFault) as caught:
        await tx.execute("select")
    assert str(caught.value) == "a collected write failed: insert into t: duplicate key"
    assert caught.value.__cause__ is fault
    assert [call[1] for call in group.calls] == ["update", "insert  into\n t"]
    assert len(writes) == 0


@pytest.mark.parametrize("fault", [Contended("deadlock"), GroupFault("aborted"), StoreUnavailable("gone")])
async def test_the_store_s_own_faults_pass_through_a_flush_unchanged(fault):
    tx, _ = of(Group(insert=fault))
    tx.write("insert")
    with pytest.raises(type(fault)) as caught:
        await tx.flush()
    assert caught.value is fault


# --- savepoints -------------------------------------------------------------------------------------------------------


async def test_a_savepoint_that_ends_well_sends_its_writes_before_it_is_released():
    group = Group()
    tx, _ = of(group)
    tx.write("before")
    async with tx.savepoint():
        tx.write("inside")
    assert [call[1] for call in group.calls] == [
        "before",
        "SAVEPOINT consumer_0",
        "inside",
        "RELEASE SAVEPOINT consumer_0",
    ]


async def test_a_savepoint_that_raises_undoes_its_queued_writes_too_and_the_transaction_goes_on():
    group = Group()
    tx, writes = of(group)
    tx.write("before")

    async def fails() -> None:
        async with tx.savepoint():
            await tx.execute("now")
            tx.write("never")
            raise KeyError

    with pytest.raises(KeyError):
        await fails()
    assert len(writes) == 0
    await tx.execute("after")
    assert [call[1] for call in group.calls] == [
        "before",
        "SAVEPOINT consumer_0",
        "now",
        "ROLLBACK TO SAVEPOINT consumer_0",
        "RELEASE SAVEPOINT consumer_0",
        "after",
    ]


async def test_a_write_that_fails_at_a_savepoint_s_end_is_undone_with_it():
    group = Group(bad=Driver.Error("duplicate key"))
    tx, _ = of(group)
    with pytest.raises(WriteFault, match="bad: duplicate key"):
        async with tx.savepoint():
            tx.write("bad")
    assert [call[1] for call in group.calls][-2:] == [
        "ROLLBACK TO SAVEPOINT consumer_0",
        "RELEASE SAVEPOINT consumer_0",
    ]


async def test_savepoints_nest():
    group = Group()
    tx, _ = of(group)
    async with tx.savepoint():
        with pytest.raises(KeyError):
            async with tx.savepoint():
                raise KeyError
        async with tx.savepoint():
            tx.write("kept")
    assert [call[1] for call in group.calls] == [
        "SAVEPOINT consumer_0",
        "SAVEPOINT consumer_1",
        "ROLLBACK TO SAVEPOINT consumer_1",
        "RELEASE SAVEPOINT consumer_1",
        "SAVEPOINT consumer_1",
        "kept",
        "RELEASE SAVEPOINT consumer_1",
        "RELEASE SAVEPOINT consumer_0",
    ]


async def test_a_time_out_inside_a_handler_undoes_the_savepoint_and_the_handler_goes_on():
    group = Group()
    tx, _ = of(group)

    async def hangs() -> None:
        async with asyncio.timeout(0), tx.savepoint():
            tx.write("never")
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await hangs()
    await tx.execute("after")
    assert [call[1] for call in group.calls] == [
        "SAVEPOINT consumer_0",
        "ROLLBACK TO SAVEPOINT consumer_0",
        "RELEASE SAVEPOINT consumer_0",
        "after",
    ]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("commit", "COMMIT"),
        ("  Commit work", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("rollback to savepoint a", "ROLLBACK"),
        ("begin", "BEGIN"),
        ("BEGIN IMMEDIATE", "BEGIN"),
        ("end;", "END"),
        ("abort", "ABORT"),
        ("start transaction", "START"),
        ("savepoint a", "SAVEPOINT"),
        ("release a", "RELEASE"),
        ("prepare transaction 'x'", "PREPARE TRANSACTION"),
        ("-- a comment\ncommit", "COMMIT"),
        ("/* a\n comment */ commit", "COMMIT"),
        ("; ;commit", "COMMIT"),
        ("--\n/**/--x\n /* y */commit", "COMMIT"),
    ],
)
async def test_a_handler_does_not_end_or_begin_its_transaction(sql, word):
    group = Group()
    tx, writes = of(group)
    for verb in (tx.execute, tx.fetch, tx.fetch_one):
        with pytest.raises(ConsumerError, match=f"^{word} is not a handler's to say"):
            await verb(sql)
    with pytest.raises(ConsumerError, match=f"^{word} is not a handler's to say"):
        tx.write(sql)
    assert (group.calls, len(writes)) == ([], 0)


@pytest.mark.parametrize(
    "sql",
    [
        "commit_log_insert()",
        "insert into t values ('commit')",
        "select 1 -- commit",
        "with x as (select 1) select * from x",
        "prepare plan as select 1",
        "/* commit */ select 1",
        "",
        "--",
        "(select 1)",
        "ending",
    ],
)
async def test_other_statements_pass(sql):
    group = Group()
    await of(group)[0].execute(sql)
    assert group.calls == [("execute", sql)]


async def test_after_its_handler_a_tx_does_nothing_any_more():
    group = Group()
    tx, writes = of(group)
    tx.write("kept")
    tx.revoke()
    for verb in (tx.execute, tx.fetch, tx.fetch_one):
        with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
            await verb("select")
    with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
        tx.write("insert")
    with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
        await tx.flush()
    with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
        _ = tx.driver
    with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
        async with tx.savepoint():
            pass
    assert (group.calls, len(writes)) == ([], 1)


async def test_a_savepoint_left_behind_writes_nothing_into_the_transaction_of_others():
    group = Group()
    tx, writes = of(group)

    async def left_behind() -> None:
        async with tx.savepoint():
            tx.revoke()
            writes.add("a neighbour's", ())

    with pytest.raises(ConsumerError, match="Tx used after its handler returned"):
        await left_behind()
    assert [call[1] for call in group.calls] == ["SAVEPOINT consumer_0"]
    assert len(writes) == 1
