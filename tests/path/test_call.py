"""`Running.call`: a caller that waits for its key, in the same key space as every other way in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from consumer import App, AtLeastOnce, AtMostOnce, Context, Key, Reject, Retry, Transactional, Tx
from consumer.errors import Conflict, ConsumerError, Dead, InDoubt, InFlight
from tests.path.kit import Order, Shop, opened

MODES = [Transactional(), AtMostOnce(), AtLeastOnce()]


class Receipt(Struct):
    id: str
    token: int


class Desk:
    """An app with one handler, and the strings by which a test moves it."""

    def __init__(self, mode: Any) -> None:
        self.app = App("shop")
        self.starts: list[str] = []
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        take: Any

        async def act(order: Order, ctx: Context) -> Receipt:
            self.starts.append(order.id)
            match order.do:
                case "wait":
                    self.entered.set()
                    await self.leave.wait()
                case "retry":
                    raise Retry("not yet")
                case "reject":
                    raise Reject("never")
                case "raise":
                    raise ValueError("broken")
            ctx.publish("effects", order.id.encode())
            return Receipt(order.id, ctx.fencing_token)

        on = self.app.on("orders", key=Key.field("id"), mode=mode)
        if isinstance(mode, Transactional):

            @on
            async def in_transaction(order: Order, ctx: Context, tx: Tx) -> Receipt:
                await tx.execute("insert into effects (id) values ($1)", order.id)
                return await act(order, ctx)

            take = in_transaction
        else:

            @on
            async def outside(order: Order, ctx: Context) -> Receipt:
                return await act(order, ctx)

            take = outside
        self.take = take

    async def call(self, process: Shop, *order: Any, **more: Any) -> Receipt:
        answer: Receipt = await process.running.call(self.take, Order(*order, **more))
        return answer


@pytest.fixture(params=MODES, ids=lambda mode: type(mode).__name__)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(request.param)


async def test_the_result_is_stored_and_replayed(desk: Desk, url: str) -> None:
    async with opened(desk.app, url) as process:
        first = await desk.call(process, "a")
        again = await desk.call(process, "a")
        await process.publish("orders", [Order("a"), Order("b")])
        await process.rest()
        other = await desk.call(process, "b")  # done by another way in
        assert isinstance(first, Receipt)
        assert again == first
        assert other.id == "b"
        assert sorted(desk.starts) == ["a", "b"]
        assert sorted(m.value for m in process.sink.published) == [b"a", b"b"]


async def test_the_answers_of_a_taken_key(desk: Desk, url: str) -> None:
    async with opened(desk.app, url) as process:
        await desk.call(process, "a")
        with pytest.raises(Conflict):
            await desk.call(process, "a", amount=2)
        with pytest.raises(Dead, match="never"):
            await desk.call(process, "r", "reject")
        with pytest.raises(Dead, match="never"):
            await desk.call(process, "r", "reject")
        assert desk.starts == ["a", "r"]
        entry = await process.entry("r")
        assert (entry.state.word, entry.message is not None) == ("dead", True)
        assert await process.effects() == (
            ["a"] if isinstance(desk.app.handlers.declared[0].mode, Transactional) else []
        )


async def test_a_failure_that_had_no_effect_is_released(desk: Desk, url: str) -> None:
    """Nothing waits in the store for a caller: it has been told, and asks again itself."""
    mode = desk.app.handlers.declared[0].mode
    async with opened(desk.app, url) as process:
        with pytest.raises(Retry):
            await desk.call(process, "a", "retry")
        if isinstance(mode, AtMostOnce):
            with pytest.raises(InDoubt, match="broken"):
                await desk.call(process, "b", "raise")
            with pytest.raises(InDoubt, match="broken"):
                await desk.call(process, "b", "raise")
            assert await process.states() == {"b": "in_doubt"}
            assert (await process.entry("b")).message is not None
        else:
            with pytest.raises(ValueError, match="broken"):
                await desk.call(process, "b", "raise")
            assert await process.states() == {}
        assert await process.effects() == []
        assert process.sink.published == []


async def test_a_key_that_is_being_worked_on(desk: Desk, url: str, is_postgres: bool) -> None:
    async with opened(desk.app, url) as process:
        first = asyncio.create_task(desk.call(process, "a", "wait"))
        await desk.entered.wait()
        if is_postgres or not isinstance(desk.app.handlers.declared[0].mode, Transactional):
            with pytest.raises(InFlight):
                await desk.call(process, "a", "wait")
            desk.leave.set()
        else:  # SQLite has one writer: the second caller waits for the first one's commit, and gets its result
            second = asyncio.create_task(desk.call(process, "a", "wait"))
            desk.leave.set()
            assert await second == await first
        assert (await first).id == "a"
        assert desk.starts == ["a"]


async def test_a_cancelled_caller_does_not_stop_the_attempt(desk: Desk, url: str) -> None:
    """Mutant: `Running.ending_of_call` without the shield."""
    async with opened(desk.app, url) as process:
        caller = asyncio.create_task(desk.call(process, "a", "wait"))
        await desk.entered.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()
        desk.leave.set()
        await process.until(lambda: process.watch.of("a"))
        assert (await process.entry("a")).state.word == "done"
        assert (await desk.call(process, "a", "wait")).id == "a"
    assert desk.starts == ["a"]


@pytest.mark.parametrize("consume", [True, False])
async def test_a_call_under_way_is_waited_for_at_the_end(desk: Desk, url: str, consume: bool) -> None:
    """A process that leaves cleanly says that it runs nothing any more: then nothing of it may be left running."""
    async with opened(desk.app, url, consume=consume) as process:
        caller = asyncio.create_task(desk.call(process, "a", "wait"))
        await desk.entered.wait()
        caller.cancel()
        asyncio.get_running_loop().call_later(0.1, desk.leave.set)
    async with opened(desk.app, url, migrate=False) as process:
        await process.rest()
        assert (await process.entry("a")).state.word == "done"
    assert desk.starts == ["a"]


async def test_a_caller_that_was_overtaken_is_told_what_is_kept(url: str) -> None:
    """Mutant: the settle's `LOST` ignored in direct.py: the first answer and its replay differ."""
    ours, theirs = Desk(AtLeastOnce()), Desk(AtLeastOnce())
    async with opened(ours.app, url, consume=False, reconnect=False) as first:
        call = asyncio.create_task(ours.call(first, "a", do="wait"))
        await ours.entered.wait()
        await first.store.workers.close(first.running.runtime.parts.worker)
        theirs.leave.set()
        async with opened(theirs.app, url, migrate=False) as second:
            await second.until(lambda: theirs.starts)
            await second.rest()
            kept = await theirs.call(second, "a", do="wait")
            ours.leave.set()
            told = await call
    assert told == kept
    assert (ours.starts, theirs.starts) == (["a"], ["a"])


RULES = {
    "none": None,
    "header": Key.header("tenant"),
    "another header": Key.header("x-tenant"),
    "field": Key.field("id"),
}


@pytest.mark.parametrize("kind", RULES)
async def test_tenants_share_no_keys(url: str, kind: str) -> None:
    """Whose tenant the handler's rule does not find is refused: it would be told what another one's key has."""
    app = App("shop")
    rule = RULES[kind]

    @app.on("orders", key=lambda order: "same", mode=AtMostOnce(), tenant=rule, same=("amount",))
    async def take(order: Order, ctx: Context) -> str:
        return ctx.tenant

    async with opened(app, url) as process:
        call = process.running.call
        if kind == "none":
            with pytest.raises(
                ConsumerError, match=r"tenant='acme' .* \('public'\); write tenant=Key.header"
            ):
                await call(take, Order("a"), tenant="acme")
            assert await call(take, Order("a")) == "public"
            assert len(await process.entries()) == 1
        elif kind == "field":
            assert await call(take, Order("acme"), tenant="acme") == "acme"
            assert await call(take, Order("beta")) == "beta"
            with pytest.raises(ConsumerError, match="is not what its tenant rule finds"):
                await call(take, Order("acme"), tenant="beta")
        else:
            assert await call(take, Order("a"), tenant="acme") == "acme"
            assert await call(take, Order("a"), tenant="beta") == "beta"
            assert await call(take, Order("a")) == "public"


async def test_a_payload_without_a_key_is_refused_in_one_text(url: str) -> None:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def take(order: Order) -> None:
        raise AssertionError(order)

    async with opened(app, url) as process:
        with pytest.raises(ConsumerError, match="^orders: key: empty$"):
            await process.running.call(take, Order(""))
