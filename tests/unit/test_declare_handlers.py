"""What a declaration becomes, and how its function is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

import msgspec
import pytest

from consumer import (
    AtLeastOnce,
    AtMostOnce,
    ConsumerError,
    Context,
    Done,
    Handlers,
    Key,
    Message,
    NotDone,
    Publish,
    RegistrationError,
    Transactional,
    Tx,
    Unknown,
)
from consumer.declare.tx import Writes
from consumer.http import single_tenant
from consumer.rules.decode import Undecodable
from consumer.webhooks.table import ROWS


class Payment(msgspec.Struct):
    payment_id: str
    amount: int


@dataclass
class Plain:
    payment_id: str


class Typed(TypedDict):
    payment_id: str


class Psp: ...


ARRIVED = Message("payments.requested", b'{"payment_id":"p","amount":1}')
CTX = Context(identity=bytes(16), key=b"p", tenant="public", token=1, attempt=1, message=ARRIVED)
TX = Tx(None, Writes())  # type: ignore[arg-type]
KEY = Key.field("payment_id")


async def take(payment: Payment) -> str:
    return payment.payment_id


def test_the_defaults():
    handlers = Handlers()
    mode = AtMostOnce()
    assert handlers.on("payments.requested", key=KEY, mode=mode)(take) is take
    [handler] = handlers.declared
    assert handler is handlers.find(take)
    assert (handler.name, handler.topics, handler.mode, handler.function) == (
        "payments.requested",
        ("payments.requested",),
        mode,
        take,
    )
    assert (handler.timeout, handler.retention, handler.concurrency, handler.ordered, handler.same) == (
        30.0,
        timedelta(days=14),
        None,
        False,
        None,
    )
    assert (handler.asks.kinds, handler.needs, handler.reconcile_needs) == ((), (), ())
    assert handler.ways_in == ["topic payments.requested"]
    line = take.__code__.co_firstlineno
    assert handler.where == f"{__name__}:take (test_declare_handlers.py:{line})"


def test_everything_that_is_given():
    handlers = Handlers()
    handlers.on(
        "a.b",
        "c_d-e",
        key=KEY,
        mode=AtLeastOnce(),
        name="pay ments",
        same=["amount"],
        timeout=timedelta(minutes=2),
        retention=timedelta(hours=1),
        concurrency=3,
        ordered=False,
        batch=None,
        tenant=None,
    )(take)
    [handler] = handlers.declared
    assert (handler.name, handler.topics, handler.same) == ("pay ments", ("a.b", "c_d-e"), ("amount",))
    assert (handler.timeout, handler.retention, handler.concurrency) == (120.0, timedelta(hours=1), 3)
    assert handler.ways_in == ["topic a.b", "topic c_d-e"]
    handlers.check()


def test_a_handler_does_not_change():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce())(take)
    with pytest.raises(AttributeError):
        handlers.find(take).name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Payment, Payment("p", 1)),
        (Plain, Plain("p")),
        (Typed, {"payment_id": "p"}),
        (dict, {"payment_id": "p", "amount": 1}),
        (dict[str, Any], {"payment_id": "p", "amount": 1}),
        (Any, {"payment_id": "p", "amount": 1}),
        (bytes, b'{"payment_id":"p","amount":1}'),
    ],
)
def test_payloads(kind, payload):
    async def handle(payload) -> None: ...

    handle.__annotations__["payload"] = kind
    handlers = Handlers()
    handlers.on("a", key=Key.record() if kind is bytes else KEY, mode=AtMostOnce())(handle)
    handler = handlers.find(handle)
    arrived = Message("a", ARRIVED.value, record_key=b"p", source="kafka")
    assert handler.decode(arrived) == payload
    assert handler.key_of(payload, arrived) == b"p"
    with pytest.raises(Undecodable, match="tombstone"):
        handler.decode(Message("a", None))


def test_a_key_may_be_optional_or_of_two_types():
    class Loose(msgspec.Struct):
        ident: str | int
        parent: str | None = None

    for name in ("ident", "parent"):
        handlers = Handlers()

        @handlers.on("a", key=Key.field(name), mode=AtMostOnce())
        async def handle(payload: Loose) -> None: ...

        assert len(handlers.declared) == 1


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_a_function_gets_what_its_signature_asks_for_in_any_order():
    handlers = Handlers()
    psp = Psp()

    @handlers.on("a", key=KEY, mode=Transactional())
    async def one(payment: Payment) -> Any:
        return (payment,)

    @handlers.on("b", key=KEY, mode=Transactional())
    async def two(payment: Payment, tx: Tx, ctx: Context) -> Any:
        return payment, tx, ctx

    @handlers.on("c", key=KEY, mode=Transactional())
    async def three(payment: Payment, psp: Psp, /, again: Psp, *, ctx: Context, tx: Tx, more: Psp) -> Any:
        return payment, psp, again, ctx, tx, more

    payment = Payment("p", 1)
    expected: dict[Any, Any] = {
        one: (payment,),
        two: (payment, TX, CTX),
        three: (payment, psp, psp, CTX, TX, psp),
    }
    for function, returned in expected.items():
        assert await handlers.find(function).call(payment, CTX, TX, {Psp: psp}) == returned
    assert handlers.find(three).needs == (Psp,)
    assert {Context, Tx} <= set(handlers.find(two).asks.kinds)


async def test_a_call_can_be_a_task():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce())(take)
    assert await asyncio.create_task(handlers.find(take).call(Payment("p", 1), CTX, None, {})) == "p"


async def test_what_a_handler_raises_comes_out_as_it_is():
    handlers = Handlers()

    @handlers.on("a", key=KEY, mode=AtMostOnce())
    async def fails(payment: Payment) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await handlers.find(fails).call(Payment("p", 1), CTX, None, {})


@pytest.mark.parametrize(
    ("result", "stored"),
    [(None, None), (Payment("p", 1), b'{"payment_id":"p","amount":1}'), (0, b"0"), ("", b'""')],
)
def test_results_are_stored_as_json(result, stored):
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce())(take)
    assert handlers.find(take).encode_result(result) == stored
    with pytest.raises(TypeError):
        handlers.find(take).encode_result(object())


# --- reconcile --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [Done("r"), Done(None, publish=[Publish("t", 1)]), NotDone(), Unknown()])
async def test_reconcile_is_asked_with_what_it_asks_for(answer):
    handlers = Handlers()
    psp = Psp()
    seen: list[Any] = []

    async def ask(ctx: Context, *, psp: Psp) -> Done[str | None] | NotDone | Unknown:
        seen.extend((ctx, psp))
        return answer

    handlers.on("a", key=KEY, mode=AtMostOnce(reconcile=ask))(take)
    handler = handlers.find(take)
    assert (handler.needs, handler.reconcile_needs) == ((), (Psp,))
    assert await handler.reconcile(CTX, {Psp: psp}) is answer
    assert seen == [CTX, psp]


async def ask_nothing() -> NotDone:
    return NotDone()


async def test_reconcile_may_ask_for_nothing():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce(reconcile=ask_nothing))(take)
    assert await handlers.find(take).reconcile(CTX, {}) == NotDone()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "reconcile returned NoneType; it must return Done(result), NotDone() or Unknown()"),
        (True, "reconcile returned bool; it must return Done(result), NotDone() or Unknown()"),
        (
            NotDone,
            "reconcile returned the class NotDone; it must return Done(result), NotDone() or Unknown()",
        ),
    ],
)
async def test_another_answer_is_a_fault(answer, text):
    handlers = Handlers()

    async def ask(ctx: Context):
        return answer

    handlers.on("a", key=KEY, mode=AtMostOnce(reconcile=ask))(take)
    with pytest.raises(ConsumerError) as caught:
        await handlers.find(take).reconcile(CTX, {})
    assert str(caught.value).endswith(text)


async def test_without_a_reconcile_nobody_is_asked():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce())(take)
    with pytest.raises(ConsumerError, match="has no reconcile"):
        await handlers.find(take).reconcile(CTX, {})


# --- registries -------------------------------------------------------------------------------------------------------


async def other(payment: Payment) -> None: ...


async def third(payment: Payment) -> None: ...


def test_registries_join_and_what_is_declared_later_counts():
    app, shop, mail = Handlers(), Handlers(), Handlers()
    app.include(shop)
    shop.include(mail)
    app.include(mail)  # a second way to the same
    mail.include(app)  # a circle
    app.on("a", key=KEY, mode=AtMostOnce())(take)
    shop.on("b", key=KEY, mode=AtMostOnce())(other)
    mail.on("c", key=KEY, mode=AtMostOnce())(third)
    assert [handler.name for handler in app.declared] == ["a", "b", "c"]
    assert app.find(third) is mail.find(third)
    app.check()


def test_a_refused_registry_is_not_included():
    app, shop = Handlers(), Handlers()
    app.on("a", key=KEY, mode=AtMostOnce())(take)
    shop.on("a", key=KEY, mode=AtMostOnce())(other)
    with pytest.raises(RegistrationError):
        app.include(shop)
    assert [handler.function for handler in app.declared] == [take]


def test_a_clash_that_comes_after_the_include_is_found_by_check():
    app, shop = Handlers(), Handlers()
    app.include(shop)
    app.on("a", key=KEY, mode=AtMostOnce())(take)
    shop.on("a", key=KEY, mode=AtMostOnce())(other)
    with pytest.raises(RegistrationError, match="two handlers on 'a' would share keys"):
        app.check()


def test_two_handlers_on_one_topic_are_fine_when_one_has_a_name():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce())(take)
    handlers.on("a", key=KEY, mode=AtMostOnce(), name="a.mail")(other)
    handlers.check()
    assert [(handler.name, handler.topics) for handler in handlers.declared] == [
        ("a", ("a",)),
        ("a.mail", ("a",)),
    ]


def test_several_ways_in_need_same():
    handlers = Handlers()
    handlers.on("a", key=KEY, mode=AtMostOnce(), same=("amount",))(take)
    handlers.on(name="b", key=KEY, mode=AtMostOnce())(other)
    for handler in handlers.declared:
        handler.add_way_in("POST /a")
        handler.add_way_in("POST /a")
    assert handlers.problems() == []
    handlers.find(other).add_way_in("/hooks/stripe")
    assert len(handlers.problems()) == 1


def test_types_may_be_defined_inside_the_function_that_declares():
    class Inner(msgspec.Struct):
        ident: str

    class Service: ...

    handlers = Handlers()

    @handlers.resource
    async def service() -> AsyncIterator[Service]:
        yield Service()

    @handlers.on("a", key=Key.field("ident"), mode=AtMostOnce())
    async def handle(payload: Inner, service: Service) -> None: ...

    handlers.check()
    assert handlers.find(handle).decode(Message("a", b'{"ident":"x"}')) == Inner("x")


class Partner:
    """As much of a provider as a registry looks at."""

    def __init__(self, **known: float | None) -> None:
        self.__dict__ |= known

    def verify(self) -> None: ...


@pytest.mark.parametrize(
    ("provider", "retention"),
    [
        (Partner(), timedelta(minutes=1)),
        (Partner(retry_horizon=None), timedelta(minutes=1)),
        (Partner(retry_horizon=3600.0), timedelta(minutes=61)),
        *[(Partner(retry_horizon=row.retry_horizon), None) for row in ROWS],
    ],
)
def test_a_provider_that_repeats_for_less_than_the_handler_remembers_is_taken(provider, retention):
    """By itself a handler remembers for longer than any known provider repeats."""
    handlers = Handlers()
    more: Any = {} if retention is None else {"retention": retention}

    @handlers.on("a", key=Key.field("payment_id"), mode=AtMostOnce(), same=["amount"], **more)
    async def heard(payment: Payment) -> None: ...

    handlers.webhook("/hooks/partner", provider, topic="a")
    assert handlers.problems() == []


class Paid(Payment):
    """A payment, and more."""


def made_paid(body: Plain) -> Paid:
    raise NotImplementedError


def made_anything(body: Plain) -> Any:
    raise NotImplementedError


def made_one_of_two(body: Plain) -> Payment | Paid:
    raise NotImplementedError


def made_without_a_word(body: Plain):
    raise NotImplementedError


def made_a_typed_dict(body: Plain) -> Typed:
    raise NotImplementedError


def made_a_number(body: Plain) -> int:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("translate", "payload"),
    [
        (made_paid, Payment),
        (made_anything, Payment),
        (made_one_of_two, Payment),
        (made_without_a_word, Payment),
        (made_paid, Any),
        (made_a_typed_dict, Typed),
        (made_a_number, float),
    ],
)
def test_a_translation_that_may_fit_is_taken(translate, payload):
    handlers = Handlers()

    async def taken(payment) -> None: ...

    taken.__annotations__["payment"] = payload
    handlers.on("a", key=Key.record(), mode=AtMostOnce(), same=())(taken)
    handlers.endpoint("POST", "/payments", taken, tenant=single_tenant, translate=translate)
