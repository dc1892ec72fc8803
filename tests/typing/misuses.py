"""Mistakes that both mypy and pyright must refuse: every `type: ignore` here is needed, or the check fails.

Checked, never run. An ignore comment that silences nothing is an error for both (`warn_unused_ignores`,
`reportUnnecessaryTypeIgnoreComment`), so a mistake that a type checker lets through fails the test.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator, Iterator

from msgspec import Struct

from consumer import AtMostOnce, Backoff, Context, Done, Handlers, Key, Reject, Retry, Transactional, Tx

handlers = Handlers()
KEY = Key.field("payment_id")


class Payment(Struct):
    payment_id: str


class Psp: ...


async def take(payment: Payment) -> str:
    return payment.payment_id


# key= and mode= have no default, and there are no others than those documented
handlers.on("a", mode=AtMostOnce())(take)  # type: ignore[call-arg]
handlers.on("a", key=KEY)(take)  # type: ignore[call-arg]
handlers.on("a", key=KEY, mode=AtMostOnce(), retries=3)(take)  # type: ignore[call-arg]

# a mode is a value of one of three types
handlers.on("a", key=KEY, mode=Transactional)(take)  # type: ignore[arg-type]
handlers.on("a", key=KEY, mode="at-most-once")(take)  # type: ignore[arg-type]
Transactional(reconcile=take)  # type: ignore[call-arg]
AtMostOnce(retry=Backoff())  # type: ignore[call-arg]
Backoff(5, 1)  # type: ignore[call-arg]

# a key is a rule or a function of the payload
handlers.on("a", key="payment_id", mode=AtMostOnce())(take)  # type: ignore[arg-type]
handlers.on("a", key=take, mode=AtMostOnce())(take)  # type: ignore[arg-type]
handlers.on("a", key=Key.field, mode=AtMostOnce())(take)  # type: ignore[arg-type]
Key.field(1)  # type: ignore[arg-type]

# options have types
handlers.on("a", key=KEY, mode=AtMostOnce(), timeout="30")(take)  # type: ignore[arg-type]
handlers.on("a", key=KEY, mode=AtMostOnce(), retention=14)(take)  # type: ignore[arg-type]
handlers.on(1, key=KEY, mode=AtMostOnce())(take)  # type: ignore[arg-type]


# a handler is async, a resource is an async generator
@handlers.on("a", key=KEY, mode=AtMostOnce())  # type: ignore[type-var]
def not_async(payment: Payment) -> None: ...


@handlers.resource  # type: ignore[type-var]
async def no_generator() -> Psp:
    return Psp()


@handlers.resource  # type: ignore[type-var]
def sync_generator() -> Iterator[Psp]:
    yield Psp()


@handlers.resource
async def resource() -> AsyncIterator[Psp]:
    yield Psp()


@handlers.on("a", key=KEY, mode=AtMostOnce())
async def typed(payment: Payment) -> str:
    return payment.payment_id


async def misuse(payment: Payment, ctx: Context, tx: Tx) -> None:
    # await means that it has happened; what is not awaited happens with the commit
    tx.execute("insert")  # type: ignore[unused-coroutine]
    await tx.write("insert")  # type: ignore[func-returns-value, misc]
    await ctx.publish("t", payment)  # type: ignore[func-returns-value, misc]
    with tx.savepoint():  # type: ignore[attr-defined]
        pass
    # the order is named, a context and its key are read only
    ctx.publish("t", payment, "account")  # type: ignore[call-arg]
    ctx.key = "other"  # type: ignore[misc]
    # a decorated function keeps its signature
    await typed(payment.payment_id)  # type: ignore[arg-type]
    # a rejection has a reason, a delay is a number, a result is not optional
    raise Reject from None  # type: ignore[call-arg]


def more() -> None:
    Retry("x", after="30")  # type: ignore[arg-type]
    Retry("x", 30)  # type: ignore[call-arg]
    Done()  # type: ignore[call-arg]
