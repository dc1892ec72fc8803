"""The harness, by the programs of the API document."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from consumer import (
    App,
    AtLeastOnce,
    AtMostOnce,
    Context,
    Done,
    Key,
    NotDone,
    Reject,
    Retry,
    Transactional,
    Tx,
    Unknown,
)
from consumer.testing import Harness


class Payment(Struct):
    payment_id: str
    amount: int = 1


class Psp:
    """A payment provider that charges, and then loses the answer."""

    def __init__(self) -> None:
        self.charged: list[str] = []
        self.knows = True

    async def charge(self, key: str) -> str:
        self.charged.append(key)
        raise TimeoutError

    async def find(self, key: str) -> str | None:
        return "receipt" if self.knows and key in self.charged else None


def shop(reconcile_answer: str = "ask") -> App:
    app = App("shop")

    @app.resource
    async def psp() -> AsyncIterator[Psp]:
        yield Psp()

    async def ask_psp(ctx: Context, psp: Psp) -> Done[str] | NotDone | Unknown:
        if reconcile_answer == "unknown":
            return Unknown()
        found = await psp.find(ctx.idempotency_key)
        return Done(found) if found else NotDone()

    @app.on("cards.charge", key=Key.field("payment_id"), mode=AtMostOnce(reconcile=ask_psp))
    async def charge(payment: Payment, ctx: Context, psp: Psp) -> str:
        return await psp.charge(ctx.idempotency_key)

    return app


async def test_a_lost_answer_is_asked_about_not_repeated() -> None:
    psp = Psp()
    async with Harness(shop(), resources={Psp: psp}) as harness:
        story = await harness.deliver("cards.charge", Payment("p1"), times=2)
    assert (story.state, story.starts, len(psp.charged), story.result) == ("done", 1, 1, "receipt")


async def test_not_done_permits_one_new_start() -> None:
    psp = Psp()
    psp.knows = False
    async with Harness(shop(), resources={Psp: psp}) as harness:
        task = harness.deliver("cards.charge", Payment("p1"))
        psp.knows = False

        async def know_after_second(key: str) -> str | None:
            return "receipt" if len(psp.charged) >= 2 else None

        psp.find = know_after_second  # type: ignore[method-assign]
        story = await task
    assert (story.state, story.starts, len(psp.charged)) == ("done", 2, 2)
    assert len(set(psp.charged)) == 1, "every start carries the same idempotency key"


async def test_unknown_leaves_it_in_doubt_and_a_duplicate_starts_nothing() -> None:
    psp = Psp()
    async with Harness(shop("unknown"), resources={Psp: psp}) as harness:
        first = await harness.deliver("cards.charge", Payment("p1"))
        again = await harness.deliver("cards.charge", Payment("p1"))
    assert (first.state, again.state, again.starts, len(psp.charged)) == ("in_doubt", "in_doubt", 1, 1)


async def test_transactional_commits_rows_result_and_messages_together() -> None:
    app = App("shop")
    app.schema(sqlite=["create table if not exists ledger (id text)"])

    @app.on("payments", key=Key.field("payment_id"), mode=Transactional())
    async def take(payment: Payment, ctx: Context, tx: Tx) -> dict[str, str]:
        if payment.amount == 0:
            await tx.execute("insert into ledger values ($1)", "ghost")
            ctx.publish("settled", {"id": "ghost"})
            raise Reject("nothing to take")
        await tx.execute("insert into ledger values ($1)", payment.payment_id)
        ctx.publish("settled", {"id": payment.payment_id})
        return {"status": "settled"}

    async with Harness(app) as harness:
        good = await harness.deliver("payments", Payment("p1"), times=3)
        bad = await harness.deliver("payments", Payment("p2", 0))
        group = await harness.running.runtime.parts.transactions.open()
        rows = [row[0] for row in await group.fetch("select id from ledger", ())]
        await group.rollback()
    assert (good.state, good.starts, good.result) == ("done", 1, {"status": "settled"})
    assert (bad.state, bad.reason) == ("dead", "nothing to take")
    assert rows == ["p1"]
    assert [message.value for message in harness.published] == [b'{"id":"p1"}']


async def test_retry_waits_and_counts_until_dead() -> None:
    app = App("shop")
    starts: list[int] = []

    @app.on("flaky", key=Key.field("payment_id"), mode=AtLeastOnce())
    async def flaky(payment: Payment, ctx: Context) -> None:
        starts.append(ctx.attempt)
        if payment.amount > ctx.attempt:
            raise Retry("not yet", after=3600)

    async with Harness(app) as harness:
        third = await harness.deliver("flaky", Payment("a", 3))
        never = await harness.deliver("flaky", Payment("b", 100))
    assert (third.state, third.attempts) == ("done", 3)
    assert (never.state, never.starts, never.attempts, never.reason) == ("dead", 5, 5, "not yet")
    assert starts == [1, 2, 3, 1, 2, 3, 4, 5]
