"""The public API as programs that must pass `mypy --strict` and pyright's strict mode. They are checked, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import assert_type

from msgspec import Struct

from consumer import (
    App,
    AtLeastOnce,
    AtMostOnce,
    Backoff,
    Context,
    Done,
    Handlers,
    Key,
    NotDone,
    Publish,
    Reject,
    Retry,
    Row,
    Settings,
    Transactional,
    Tx,
    Unknown,
)

app = App("shop")
more = Handlers()


class Signup(Struct):
    user_id: str
    email: str


class Payment(Struct):
    payment_id: str
    account: str
    amount: int
    currency: str


class Receipt(Struct):
    payment_id: str
    status: str


class Psp:
    async def find(self, key: str) -> Receipt | None:
        raise NotImplementedError

    async def charge(self, payment: Payment, key: str) -> Receipt:
        raise NotImplementedError


class Session:
    """Lives one attempt."""


@app.on("users.signed_up", key=Key.field("user_id"), mode=AtMostOnce())
async def welcome(signup: Signup, ctx: Context) -> None:
    print(f"welcome, {signup.email} ({ctx.idempotency_key}, {ctx.fencing_token}, {ctx.attempt}, {ctx.key})")


@app.resource
async def psp() -> AsyncIterator[Psp]:
    yield Psp()


@more.resource
async def session(tx: Tx, ctx: Context) -> AsyncIterator[Session]:
    await tx.execute("set local application_name = 'x'")
    yield Session()


@app.on(
    "payments.requested",
    "payments.imported",
    name="payments",
    key=Key.field("payment_id"),
    mode=Transactional(retry=Backoff(3, first=timedelta(seconds=2))),
    tenant=Key.header("tenant"),
    same=("account", "amount", "currency"),
    timeout=10,
    retention=timedelta(days=30),
    concurrency=4,
)
async def take_payment(payment: Payment, ctx: Context, tx: Tx) -> Receipt:
    if payment.amount <= 0:
        raise Reject("amount must be positive")
    changed = await tx.execute(
        "insert into ledger (payment_id, amount) values ($1, $2)", payment.payment_id, payment.amount
    )
    assert_type(changed, int)
    rows = await tx.fetch("select payment_id, amount from ledger")
    assert_type(rows, list[Row])
    row = await tx.fetch_one("select amount from ledger where payment_id = $1", payment.payment_id)
    if row is not None:
        print(row["amount"], row[0], len(row), *row)
    tx.write("insert into audit (payment_id) values ($1)", payment.payment_id)
    async with tx.savepoint():
        tx.write("insert into tags (payment_id) values ($1)", payment.payment_id)
    ctx.publish("payments.settled", payment, ordering_key=payment.account, headers={"via": "app"}, delay=1)
    ctx.publish("payments.settled", b"raw", headers=[("a", b"1"), ("a", b"2")], delay=timedelta(seconds=1))
    return Receipt(payment.payment_id, "settled")


async def ask_psp(ctx: Context, psp: Psp) -> Done[Receipt] | NotDone | Unknown:
    try:
        receipt = await psp.find(ctx.idempotency_key)
    except OSError:
        return Unknown()
    return Done(receipt, publish=[Publish("payments.settled", receipt)]) if receipt else NotDone()


@app.on("cards.charge", key=Key.field("payment_id"), mode=AtMostOnce(reconcile=ask_psp), timeout=30)
async def charge_card(payment: Payment, ctx: Context, psp: Psp) -> Receipt:
    try:
        return await psp.charge(payment, key=ctx.idempotency_key)
    except ConnectionError as error:
        raise Retry("provider unreachable", after=30) from error


def by_account(payment: Payment) -> str:
    return payment.account


@more.on("a", key=by_account, mode=AtLeastOnce())
async def with_a_function(payment: Payment) -> None: ...


@more.on("b", key=lambda payment: payment["id"].encode(), mode=AtLeastOnce(Backoff()), tenant=None)
async def with_a_lambda(payment: dict[str, str], *, session: Session) -> None: ...


@more.on("c", key=Key.record(), mode=AtLeastOnce(), name=None, same=None, ordered=False, batch=None)
async def raw(payload: bytes) -> str:
    return "x"


app.include(more)


async def main() -> None:
    # a decorated function keeps its type
    payment = Payment("p-1", "a", 1, "EUR")
    assert_type(await raw(b""), str)
    async with app.open(Settings.load()) as running:
        await running.publish("payments.requested", payment, ordering_key=payment.account)
        await running.call(take_payment, payment)
