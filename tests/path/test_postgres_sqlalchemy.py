"""`consumer.sqlalchemy.session`: an AsyncSession inside the very transaction of the claim, on a real Postgres."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from consumer import App, Backoff, Context, Key, Transactional, Tx
from consumer.entry import State
from consumer.errors import ConsumerError, Contended
from consumer.sqlalchemy import session
from tests.path.kit import Order, opened
from tests.path.kit import select as rows
from tests.path.listsource import ListSource
from tests.path.ormkit import MODE, TABLES, Booked, app_of, booked, broken, ended, pid_of

# ------------------------------------------------------------------------------------------------------ one commit


async def test_it_is_asked_for_without_tx_and_what_is_pending_is_written(postgres_url: str) -> None:
    """Nobody flushes. Mutant: no flush at the end."""
    app = App("shop")
    app.schema(postgres=TABLES)
    app.resource(session)

    @app.on("orders", key=Key.field("id"), mode=MODE)
    async def book(order: Order, db: AsyncSession) -> None:
        db.add(Booked(code=order.id))

    keys = [f"k-{number}" for number in range(20)]
    states, codes = await ended(app, postgres_url, *map(Order, keys))
    assert states == dict.fromkeys(keys, "done")
    assert codes == sorted(keys)


async def test_a_handler_that_raises_leaves_nothing_whatever_it_has_committed(postgres_url: str) -> None:
    """Mutant: the session's commit is one for real."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add(Booked(code=f"{order.id}, committed"))
        await db.commit()
        db.add(Booked(code=f"{order.id}, flushed"))
        await db.flush()
        db.add(Booked(code=f"{order.id}, pending"))
        broken(order)

    states, codes = await ended(app_of(do), postgres_url, Order("bad", "raise"), Order("good"))
    assert states == {"bad": "dead", "good": "done"}
    assert codes == ["good, committed", "good, flushed", "good, pending"]


async def test_what_is_committed_is_seen_by_nobody_before_the_entry_is(postgres_url: str) -> None:
    seen: list[list[str]] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add(Booked(code=order.id))
        await db.commit()
        seen.append(await booked(postgres_url))

    _, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert (seen, codes) == ([[]], ["a"])


async def test_a_connection_that_is_lost_after_its_commit_leaves_nothing(postgres_url: str) -> None:
    """Killed on the server, as by a crash; the message is run again."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add(Booked(code=f"{order.id} {ctx.attempt}"))
        await db.commit()
        if order.do == "raise" and not lost:
            lost.append(1)
            pid = await db.scalar(select(func.pg_backend_pid()))
            await rows(postgres_url, f"select pg_terminate_backend({pid})")
            await db.scalar(select(1))

    lost: list[int] = []
    states, codes = await ended(app_of(do), postgres_url, Order("a", "raise"))
    assert (states, lost) == ({"a": "done"}, [1])
    assert len(codes) == 1


async def test_begin_blocks_and_savepoints_are_the_sessions_own(postgres_url: str) -> None:
    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        async with db.begin():
            db.add(Booked(code="block"))
        with pytest.raises(IntegrityError):
            async with db.begin_nested():
                db.add(Booked(code="block"))
        async with db.begin_nested():
            db.add(Booked(code="nested"))

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert (states, codes) == ({"a": "done"}, ["block", "nested"])


async def test_a_rollback_undoes_what_the_session_did_and_nothing_else(postgres_url: str) -> None:
    """Also what is collected stays so: it is not sent into what is undone."""
    sql = "insert into booked (code) values ($1)"

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        await tx.execute(sql, "before")
        tx.write(sql, "collected before")
        db.add(Booked(code="undone"))
        await db.flush()
        tx.write(sql, "collected after")
        await db.rollback()
        db.add(Booked(code="anew"))

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert states == {"a": "done"}
    assert codes == ["anew", "before", "collected after", "collected before"]


# ---------------------------------------------------------------------------------------------------------- errors


async def test_an_error_of_the_last_flush_is_its_own_handlers(postgres_url: str) -> None:
    """It counts as its attempts; neighbours of the group are done."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add(Booked(code="taken" if order.do == "raise" else order.id))

    app = app_of(do)
    app.schema(postgres=["insert into booked (code) values ('taken') on conflict do nothing"])
    async with opened(app, postgres_url) as shop:
        await shop.publish_at_once("orders", [Order("a"), Order("bad", "raise"), Order("c")])
        await shop.rest()
        bad = await shop.entry("bad")
        assert await shop.states() == {"a": "done", "bad": "dead", "c": "done"}
    assert bad.attempts == 2
    assert "IntegrityError" in (bad.reason or "")
    assert await booked(postgres_url) == ["a", "c", "taken"]


@pytest.mark.parametrize(
    ("how", "ends"),
    [("flush", "dead"), ("flush, rollback", "done"), ("execute", "dead"), ("execute, rollback", "done")],
)
async def test_an_integrity_error_that_the_handler_swallows(postgres_url: str, how: str, ends: str) -> None:
    """Rolled back by the session it may go on; else nothing of the attempt is kept, as with `Tx`."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        await tx.execute("insert into booked (code) values ('taken')")
        if how.startswith("flush"):
            db.add(Booked(code="taken"))
        doubled = db.flush() if how.startswith("flush") else db.execute(insert(Booked).values(code="taken"))
        with pytest.raises(IntegrityError):
            await doubled
        if how.endswith("rollback"):
            await db.rollback()
            db.add(Booked(code="other"))

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert (states, codes) == ({"a": ends}, ["other", "taken"] if ends == "done" else [])


async def test_an_isolation_of_its_own_is_refused(postgres_url: str) -> None:
    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        with pytest.raises(ConsumerError, match="'AUTOCOMMIT' is not a handler's to choose"):
            await db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})

    states, _ = await ended(app_of(do), postgres_url, Order("a"))
    assert states == {"a": "done"}


async def test_a_transaction_that_it_ends_by_hand_is_noticed_before_the_next_statement(
    postgres_url: str,
) -> None:
    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        await db.execute(text("rollback"))
        db.add(Booked(code="astray"))

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert (states, codes) == ({"a": "dead"}, [])


async def test_a_time_out_in_the_middle_of_a_statement(postgres_url: str) -> None:
    """The statement is stopped on the server, nothing is kept, and the connection serves the next one."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add(Booked(code=order.id))
        await db.commit()
        if order.do == "hang":
            await db.execute(text("select pg_sleep(60)"))

    app = app_of(do, timeout=2)  # its neighbours must be done by then
    async with opened(app, postgres_url) as shop:
        await shop.publish_at_once("orders", [Order("a"), Order("slow", "hang"), Order("c")])
        await shop.rest()
        slow = await shop.entry("slow")
        assert await shop.states() == {"a": "done", "slow": "dead", "c": "done"}
    assert "no result within 2 s" in (slow.reason or "")
    assert await booked(postgres_url) == ["a", "c"]


async def test_a_lock_that_does_not_come_is_the_groups_fault_as_with_tx(postgres_url: str) -> None:
    """Nobody's attempt is counted: it is asked again. Mutant: an error like any other."""
    told: list[BaseException] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        await db.execute(text("set local lock_timeout = '30ms'"))
        try:
            await db.execute(text("select 1 from booked where code = 'held' for update"))
        except Exception as fault:
            told.append(fault)
            raise

    app = app_of(do)
    app.schema(postgres=["insert into booked (code) values ('held') on conflict do nothing"])
    async with opened(app, postgres_url) as shop:
        other = await asyncpg.connect(postgres_url)
        held = other.transaction()
        await held.start()
        await other.execute("select 1 from booked for update")
        await shop.publish("orders", [Order("a")])
        await shop.until(lambda: bool(told))
        await held.rollback()
        await other.close()
        await shop.rest()
        entry = await shop.entry("a")
    assert isinstance(told[0], Contended)
    assert (entry.state, entry.attempts) == (State.DONE, 1)


@pytest.mark.parametrize(("inside", "ends"), [("commit", "done"), ("flush", "dead")])
async def test_a_savepoint_of_tx_around_it(postgres_url: str, inside: str, ends: str) -> None:
    """Savepoints are a stack: the session's own has to end within; else it is gone when the session asks for it."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        async with tx.savepoint():
            db.add(Booked(code=order.id))
            await getattr(db, inside)()

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert (states, codes) == ({"a": ends}, ["a"] if ends == "done" else [])


# -------------------------------------------------------------------------------------------- what tx has collected


async def test_what_is_collected_is_sent_before_each_statement_of_the_session(postgres_url: str) -> None:
    sql = "insert into booked (code) values ($1)"
    seen: list[list[str]] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        for code in ("first", "second"):
            tx.write(sql, code)
            seen.append(list(await db.scalars(select(Booked.code).order_by(Booked.code))))

    states, _ = await ended(app_of(do), postgres_url, Order("a"))
    assert (states, seen) == ({"a": "done"}, [["first"], ["first", "second"]])


# ---------------------------------------------------------------------------------------------------- one attempt


async def test_attempts_share_a_connection_and_its_prepared_statements_and_nothing_else(
    postgres_url: str,
) -> None:
    """Mutant: nothing is remembered of a connection (each attempt would prepare its statements anew)."""
    known: list[int] = []
    prepared: dict[int, list[list[str]]] = {}

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        known.append(len(list(db)))
        db.add(Booked(code=order.id))
        await db.flush()
        assert len(list(await db.scalars(select(Booked)))) == len(known)
        names = await tx.fetch(
            "select name from pg_prepared_statements where statement like '%booked.%' order by name"
        )
        prepared.setdefault(await pid_of(db), []).append([row[0] for row in names])

    keys = [f"k-{number}" for number in range(12)]
    async with opened(app_of(do), postgres_url) as shop:
        for key in keys:
            await shop.running.publish("orders", Order(key))
            await shop.rest()
    assert await booked(postgres_url) == sorted(keys)
    assert known == [0] * len(keys)
    assert len(prepared) <= 4, "connections for groups"
    for of_one in prepared.values():
        assert of_one == [of_one[0]] * len(of_one)


async def test_a_task_that_kept_it_can_do_nothing(postgres_url: str) -> None:
    """It asks while a neighbour's handler runs on the same connection. Mutant: the session lives on."""
    kept: list[AsyncSession] = []
    told: list[BaseException | None] = []

    async def write() -> None:
        kept[0].add(Booked(code="astray"))
        await kept[0].flush()

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        if kept:
            [fault] = await asyncio.gather(asyncio.create_task(write()), return_exceptions=True)
            told.append(fault)
        else:
            db.add(Booked(code=order.id))
            await db.flush()
            kept.append(db)

    states, codes = await ended(app_of(do), postgres_url, Order("a"), Order("b"))
    assert states == {"a": "done", "b": "done"}
    assert codes == ["a"]
    assert [type(fault) for fault in told] == [InvalidRequestError]
    assert "closed" in str(told[0])


async def test_a_handler_that_was_given_up_cannot_write_into_the_next_group(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is open still, and its connection is another group's. Mutant: whose connection it is is not asked."""
    monkeypatch.setattr("consumer.worker.watch.GRACE", 0.1)
    go_on, left = asyncio.Event(), asyncio.Event()
    told: list[BaseException] = []
    pids: list[int] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        pids.append(await pid_of(db))
        if order.do == "return":
            if pids[-1] == pids[0]:
                go_on.set()
            await (
                left.wait()
            )  # each lane on another connection, until one has that of the one that was given up
            return
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        db.add(Booked(code="astray"))
        try:
            await db.flush()
        except Exception as fault:
            told.append(fault)
            raise
        finally:
            left.set()

    source = ListSource()
    app = app_of(do, mode=Transactional(retry=Backoff(1)), timeout=2)
    others = [f"n-{number}" for number in range(12)]
    async with opened(app, postgres_url, source=source) as shop:
        source.add("orders", Order("stuck", "hang"))
        await shop.until(lambda: bool(shop.running.runtime.lanes.left_behind))
        for other in others:
            source.add("orders", Order(other))
        await shop.until(left.is_set)
        await shop.rest()
        assert await shop.states() == {"stuck": "dead"} | dict.fromkeys(others, "done")
    assert ["the group is over" in str(fault) for fault in told] == [True]
    assert pids[0] in pids[1:], "the same connection, else this shows nothing"
    assert await booked(postgres_url) == []
