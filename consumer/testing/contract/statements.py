"""The statements of handlers in a group, and the gate that nobody but `seal` opens."""

from __future__ import annotations

import contextlib
import inspect

from consumer.entry import State
from consumer.errors import GroupFault
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.ledger import INSERT, faulted, finish, group, ledger, make_ledger
from consumer.testing.contract.samples import Process, claim, process

__all__ = ["CHAPTER"]

CHAPTER = Chapter("statements")


async def _nothing_happened(here: Process) -> None:
    assert await here.seen(claim()) is None
    assert await ledger(here) == []


async def _all_or_nothing(here: Process, *, nothing: bool) -> None:
    """A fault: nothing of the group; none: the entry and the handler's row together."""
    if nothing:
        await _nothing_happened(here)
    else:
        assert (await here.entry(claim())).state is State.DONE
        assert await ledger(here) == [("k-1", 5)]


@CHAPTER.case("transactions")
async def execute_counts_the_rows_it_changed(backend: Backend) -> None:
    """Inserted, updated and deleted ones; 0 for statements that change none."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        assert [await opened.execute(INSERT, [name, 1]) for name in ("a", "b", "c")] == [1, 1, 1]
        assert await opened.execute("update contract_ledger set amount = $1 where name <> $2", [2, "a"]) == 2
        assert await opened.execute("update contract_ledger set amount = 3 where name = $1", ["none"]) == 0
        assert await opened.execute("select name from contract_ledger", []) == 0
        assert await opened.execute("delete from contract_ledger where amount = $1", [2]) == 2
        await finish(opened)
    assert await ledger(here) == [("a", 1)]


@CHAPTER.case("transactions")
async def rows_are_read_by_index_and_by_name(backend: Backend) -> None:
    """With what the group has written so far; `None` is null, and an empty answer an empty list."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["a", 2**40])
        await opened.execute(INSERT, ["b", None])
        rows = await opened.fetch("select name, amount as sum from contract_ledger order by name", [])
        assert [(row[0], row[1]) for row in rows] == [("a", 2**40), ("b", None)]
        assert [(row["name"], row["sum"]) for row in rows] == [("a", 2**40), ("b", None)]
        assert await opened.fetch("select name from contract_ledger where name = $1", ["none"]) == []
        await opened.rollback()


@CHAPTER.case("transactions")
async def a_statement_may_write_and_return(backend: Backend) -> None:
    """`fetch` of a statement with `returning` has its rows and its effect."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        rows = await opened.fetch(f"{INSERT} returning amount", ["k-1", 5])
        assert [row["amount"] for row in rows] == [5]
        await finish(opened)
    assert await ledger(here) == [("k-1", 5)]


@CHAPTER.case("transactions")
async def placeholders_may_repeat_and_come_in_any_order(backend: Backend) -> None:
    """`$2` is the second value wherever it stands, also in `executemany`."""
    here = await process(backend)
    await make_ledger(here)
    sql = "insert into contract_ledger (amount, name, note) values ($2, $1, $1)"
    async with group(here) as opened:
        await opened.claim([claim()])
        assert await opened.execute(sql, ["a", 1]) == 1
        await opened.executemany(sql, [["b", 2], ["c", 3]])
        select = "select name, amount from contract_ledger where note = $2 and amount >= $1 and name = $2"
        rows = await opened.fetch(select, [2, "c"])
        assert [(row[0], row[1]) for row in rows] == [("c", 3)]
        await finish(opened)
    assert await ledger(here) == [("a", 1), ("b", 2), ("c", 3)]


@CHAPTER.case("transactions")
async def executemany_keeps_the_order(backend: Backend) -> None:
    """Row after row, as a handler wrote them."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 0])
        await opened.executemany(
            "update contract_ledger set amount = amount * 10 + $1 where name = $2",
            [[digit, "k-1"] for digit in (3, 1, 4, 1, 5, 9, 2, 6)],
        )
        await finish(opened)
    assert await ledger(here) == [("k-1", 31415926)]


@CHAPTER.case("transactions")
async def text_of_any_kind_is_bound(backend: Backend) -> None:
    """Values are never read as SQL."""
    here = await process(backend)
    await make_ledger(here)
    names = ["", "'", '"; drop table contract_ledger; --', "$1", "день \U0001f600", "?", ":name", "100%"]
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.executemany(INSERT, [[name, 1] for name in names])
        await finish(opened)
    assert sorted(name for name, _ in await ledger(here)) == sorted(names)


@CHAPTER.case("transactions")
async def a_handlers_commit_commits_nothing(backend: Backend) -> None:
    """Even when it swallows the error: seal or commit faults, and no entry is done."""
    here, there = await process(backend), await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        with contextlib.suppress(Exception):
            await opened.execute("COMMIT", [])
        assert await there.seen(claim()) is None
        assert await faulted(opened), "somebody else's COMMIT went unnoticed"
    await _nothing_happened(there)


@CHAPTER.case("transactions")
async def a_commit_and_a_new_transaction_do_not_pass_for_the_old(backend: Backend) -> None:
    """What a handler writes after its own COMMIT and BEGIN is not committed as if its entry were done."""
    here, there = await process(backend), await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        for sql in ("COMMIT", "BEGIN"):
            with contextlib.suppress(Exception):
                await opened.execute(sql, [])
        with contextlib.suppress(Exception):
            await opened.execute(INSERT, ["k-1", 5])
        assert await faulted(opened), "seal took another transaction for its own"
    await _nothing_happened(there)


@CHAPTER.case("transactions")
async def a_commit_through_the_driver_commits_nothing(backend: Backend) -> None:
    """By the raw connection: nobody sees the entry done, and the group ends whole or not at all."""
    here, there = await process(backend), await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        with contextlib.suppress(Exception):
            answer = opened.driver.execute("COMMIT")
            if inspect.isawaitable(answer):
                await answer
        assert await there.seen(claim()) is None, "a COMMIT behind the store's back made the entry done"
        fault = await faulted(opened)
    await _all_or_nothing(there, nothing=fault)


@CHAPTER.case("transactions")
async def a_handlers_rollback_is_noticed(backend: Backend) -> None:
    """The entries are gone with it: seal faults, and what came after is not committed."""
    here = await process(backend)
    await make_ledger(here)
    for again in ((), ("BEGIN",)):
        async with group(here) as opened:
            await opened.claim([claim()])
            for sql in ("ROLLBACK", *again):
                with contextlib.suppress(Exception):
                    await opened.execute(sql, [])
            with contextlib.suppress(Exception):
                await opened.execute(INSERT, ["k-1", 5])
            try:
                await opened.seal()
            except GroupFault:
                await opened.rollback()
            else:
                raise AssertionError("seal did not notice that the transaction is another one")
        await _nothing_happened(here)


@CHAPTER.case("transactions")
async def a_swallowed_error_does_not_lose_half_of_a_group(backend: Backend) -> None:
    """Where the statement aborted the transaction seal faults; where it did not, the rest is committed whole."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        with contextlib.suppress(Exception):
            await opened.execute("insert into contract_no_such_table (name) values ($1)", ["k-1"])
        fault = await faulted(opened)
    await _all_or_nothing(here, nothing=fault)
    if here.store.capabilities.dialect == "postgres":
        assert fault, "an aborted transaction was sealed"


@CHAPTER.case("transactions")
async def an_error_inside_a_savepoint_harms_nothing_outside(backend: Backend) -> None:
    """Rolled back to, it leaves the rest of the group to be committed."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        await opened.execute("SAVEPOINT try", [])
        await opened.execute(INSERT, ["inside", 1])
        with contextlib.suppress(Exception):
            await opened.execute("insert into contract_no_such_table (name) values ($1)", ["k-1"])
        await opened.execute("ROLLBACK TO SAVEPOINT try", [])
        await opened.execute("RELEASE SAVEPOINT try", [])
        await finish(opened)
    await _all_or_nothing(here, nothing=False)


@CHAPTER.case("transactions")
async def a_broken_deferred_constraint_faults(backend: Backend) -> None:
    """A handler's constraint that is checked at the end fails the group, and nothing of it has happened."""
    here = await process(backend)
    await make_ledger(here)
    for parents, wanted in ((0, True), (1, False)):
        async with group(here) as opened:
            await opened.claim([claim()])
            await opened.execute(INSERT, ["k-1", 5])
            await opened.execute("insert into contract_child (parent) values ($1)", [7])
            for _ in range(parents):
                await opened.execute("insert into contract_parent (id) values ($1)", [7])
            assert await faulted(opened) == wanted
        await _all_or_nothing(here, nothing=wanted)


@CHAPTER.case("transactions")
async def an_error_of_a_statement_reaches_its_handler(backend: Backend) -> None:
    """As the driver raises it, whichever verb ran it; the group can still be rolled back."""
    here = await process(backend)
    await make_ledger(here)
    wrong = "select no_such_column from contract_ledger"
    for verb in ("execute", "fetch", "executemany"):
        async with group(here) as opened:
            await opened.claim([claim()])
            try:
                await getattr(opened, verb)(wrong, [])
            except Exception:  # noqa: BLE001 - which one it is is the driver's business
                raised = True
            else:
                raised = verb == "executemany"  # of no rows: nothing was run
            assert raised, verb
            await opened.rollback()
        await _nothing_happened(here)


@CHAPTER.case("transactions")
async def own_statements_of_a_migration_may_be_repeated(backend: Backend) -> None:
    """The application's tables are made with the framework's, as often as somebody asks; a dry run makes none."""
    here = await process(backend)
    await make_ledger(here)
    own = ["create table if not exists contract_dry (n bigint)"]
    await here.store.migrate(own, dry_run=True)
    async with group(here) as opened:
        await opened.claim([])
        try:
            await opened.execute("insert into contract_dry (n) values (1)", [])
        except Exception:  # noqa: BLE001 - which one it is is the driver's business
            made = False
        else:
            made = True
        await opened.rollback()
    assert not made, "a dry run made a table"
    for _ in range(2):
        await here.store.migrate(["create table if not exists contract_twice (n bigint)"])
