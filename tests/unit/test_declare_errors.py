"""Every registration error, as one golden file: where, what is wrong, the mend.

`UPDATE_GOLDEN=1 pytest tests/unit/test_declare_errors.py` rewrites the file; read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID, uuid4

import msgspec
import pytest

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
    RegistrationError,
    Transactional,
    Tx,
)
from consumer.http import single_tenant

GOLDEN = Path(__file__).parent.parent / "golden" / "registration_errors.txt"


class Account(msgspec.Struct):
    number: str
    score: float = 0.0


class Payment(msgspec.Struct):
    payment_id: str
    account: Account
    amount: int
    paid: bool
    rate: float
    currency: str = "EUR"
    trace: UUID = msgspec.field(default_factory=uuid4)
    parent: str | None = None


@dataclass
class Plain:
    ident: str
    tags: list[str] = field(default_factory=list)


class Typed(TypedDict):
    ident: str


class Foreign:
    """A class that msgspec knows nothing of."""


class Psp: ...


class Bank: ...


KEY = Key.field("payment_id")
on: dict[str, Any] = {"key": KEY, "mode": AtMostOnce()}
CASES: dict[str, Callable[[], object]] = {}


def case(function: Callable[[], object]) -> Callable[[], object]:
    CASES[function.__name__] = function
    return function


def declare(*topics: Any, **options: Any) -> Callable[[Any], Any]:
    return Handlers().on(*(topics or ("payments.requested",)), **{**on, **options})


async def charge(payment: Payment) -> None: ...


# --- the function -----------------------------------------------------------------------------------------------------


@case
def not_async():
    @declare()
    def charge(payment: Payment) -> None: ...


@case
def a_generator():
    @declare()
    def charge(payment: Payment) -> Iterator[int]:
        yield 1


@case
def an_async_generator():
    @declare()
    async def charge(payment: Payment) -> AsyncIterator[int]:
        yield 1


@case
def no_function():
    declare()(42)


@case
def no_parameter():
    @declare()
    async def charge() -> None: ...


@case
def first_parameter_without_annotation():
    @declare()
    async def charge(payment) -> None: ...


@case
def other_parameter_without_annotation():
    @declare()
    async def charge(payment: Payment, psp) -> None: ...


@case
def positional_rest():
    @declare()
    async def charge(payment: Payment, *rest: Psp) -> None: ...


@case
def named_rest():
    @declare()
    async def charge(payment: Payment, **rest: Psp) -> None: ...


@case
def default_value():
    @declare()
    async def charge(payment: Payment, limit: int = 3) -> None: ...


@case
def payload_with_a_default():
    @declare()
    async def charge(payment: Payment | None = None) -> None: ...


@case
def payload_by_keyword():
    @declare()
    async def charge(*, payment: Payment) -> None: ...


@case
def context_first():
    @declare()
    async def charge(ctx: Context, payment: Payment) -> None: ...


@case
def annotation_that_does_not_exist():
    @declare()
    async def charge(payment: Paiment) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@case
def payload_that_msgspec_does_not_know():
    @declare()
    async def charge(payment: Foreign) -> None: ...


@case
def payload_with_a_foreign_type_inside():
    @declare()
    async def charge(payment: dict[str, list[Foreign]]) -> None: ...


@case
def payload_that_is_ambiguous():
    @declare()
    async def charge(payment: Payment | Account) -> None: ...


@case
def result_that_cannot_be_stored():
    @declare()
    async def charge(payment: Payment) -> Foreign:
        raise NotImplementedError


@case
def registered_twice():
    handlers = Handlers()
    handlers.on("a", **on)(charge)
    handlers.on("b", **on)(charge)


# --- mode and options -------------------------------------------------------------------------------------------------


@case
def mode_missing():
    Handlers().on("payments.requested", key=KEY)(charge)  # type: ignore[call-arg]


@case
def mode_as_a_class():
    declare(mode=Transactional)(charge)


@case
def mode_as_text():
    declare(mode="at-most-once")(charge)


@case
def retry_as_a_number():
    declare(mode=AtLeastOnce(retry=3))(charge)  # type: ignore[arg-type]


@case
def tx_without_a_transaction():
    @declare()
    async def charge(payment: Payment, tx: Tx) -> None: ...


@case
def tx_in_at_least_once():
    @declare(mode=AtLeastOnce(Backoff(3)))
    async def charge(payment: Payment, *, tx: Tx) -> None: ...


@case
def unknown_option():
    declare(timeuot=3)(charge)


@case
def timeout_zero():
    declare(timeout=0)(charge)


@case
def timeout_that_is_no_number():
    declare(timeout="30")(charge)


@case
def timeout_without_end():
    declare(timeout=float("inf"))(charge)


@case
def retention_as_a_number():
    declare(retention=14)(charge)


@case
def retention_zero():
    declare(retention=timedelta(0))(charge)


@case
def concurrency_zero():
    declare(concurrency=0)(charge)


@case
def concurrency_as_a_boolean():
    declare(concurrency=True)(charge)


@case
def ordered_by_text():
    declare(ordered="account")(charge)


@case
def ordered_by_a_field_that_is_not_there():
    declare(ordered=Key.field("acount"))(charge)


@case
def batch():
    declare(batch=0)(charge)


# --- key, tenant, same ------------------------------------------------------------------------------------------------


@case
def key_missing():
    Handlers().on("payments.requested", mode=AtMostOnce())(charge)  # type: ignore[call-arg]


@case
def key_as_text():
    declare(key="payment_id")(charge)


@case
def key_not_called():
    declare(key=Key.record)(charge)


@case
def key_that_is_no_rule():
    declare(key=7)(charge)


@case
def key_that_is_a_class():
    declare(key=str)(charge)


@case
def key_field_unknown():
    declare(key=Key.field("paymnt_id"))(charge)


@case
def key_field_unknown_and_nothing_like_it():
    @declare(key=Key.field("id"))
    async def charge(payment: Plain) -> None: ...


@case
def key_field_of_a_typed_dict_unknown():
    @declare(key=Key.field("id"))
    async def charge(payment: Typed) -> None: ...


@case
def key_field_without_a_name():
    declare(key=Key.field())(charge)


@case
def nested_key_field_unknown():
    declare(key=Key.field("account", "numbr"))(charge)


@case
def key_field_beyond_a_scalar():
    declare(key=Key.field("payment_id", "x"))(charge)


@case
def key_field_of_a_scalar_payload():
    @declare(key=Key.field("id"))
    async def charge(payment: int) -> None: ...


@case
def key_field_float():
    declare(key=Key.field("rate"))(charge)


@case
def key_field_bool():
    declare(key=Key.field("paid"))(charge)


@case
def key_field_struct():
    declare(key=Key.field("account"))(charge)


@case
def key_field_with_a_default():
    declare(key=Key.field("currency"))(charge)


@case
def key_field_with_a_default_factory():
    declare(key=Key.field("trace"))(charge)


@case
def key_function_async():
    async def key(payment: Payment) -> str:
        raise NotImplementedError

    declare(key=key)(charge)


@case
def key_function_with_other_parameters():
    declare(key=lambda: "x")(charge)


@case
def key_header_without_a_name():
    declare(key=Key.header(""))(charge)


@case
def tenant_as_text():
    declare(tenant="acme")(charge)


@case
def tenant_field_unknown():
    declare(tenant=Key.field("tenant"))(charge)


@case
def same_as_one_text():
    declare(same="account")(charge)


@case
def same_unknown():
    declare(same=("account", "amont"))(charge)


@case
def same_of_a_payload_without_fields():
    @declare(key=Key.record(), same=("a",))
    async def charge(payment: bytes) -> None: ...


@case
def same_missing_with_several_ways_in():
    handlers = Handlers()
    handlers.on("payments.requested", key=KEY, mode=Transactional())(charge)
    handlers.find(charge).add_way_in("POST /payments")
    handlers.find(charge).add_way_in("/hooks/stripe")
    handlers.check()


@case
def same_missing_with_two_topics():
    handlers = Handlers()
    handlers.on("payments.requested", "payments.imported", name="pay", **on)(charge)
    handlers.check()


# --- names ------------------------------------------------------------------------------------------------------------


@case
def two_handlers_on_one_topic():
    handlers = Handlers()
    handlers.on("orders.placed", **on)(charge)

    @handlers.on("orders.placed", **on)
    async def send(payment: Payment) -> None: ...


@case
def name_taken():
    handlers = Handlers()
    handlers.on("orders.placed", name="pay", **on)(charge)

    @handlers.on("orders.paid", name="pay", **on)
    async def send(payment: Payment) -> None: ...


@case
def name_taken_by_a_topic():
    handlers = Handlers()
    handlers.on("orders.placed", **on)(charge)

    @handlers.on("orders.paid", name="orders.placed", **on)
    async def send(payment: Payment) -> None: ...


@case
def name_taken_in_an_included_registry():
    app, other = Handlers(), Handlers()
    app.on("orders.placed", **on)(charge)

    @other.on("orders.placed", **on)
    async def send(payment: Payment) -> None: ...

    app.include(other)


@case
def name_needed_for_several_topics():
    declare("a", "b", "c")(charge)


@case
def name_needed_without_a_topic():
    Handlers().on(**on)(charge)


@case
def name_that_cannot_be_printed():
    declare(name="pay\nments")(charge)


@case
def name_too_long():
    declare(name="n" * 201)(charge)


@case
def topic_outside_kafka_s_alphabet():
    declare("payments/requested")(charge)


@case
def topic_twice():
    declare("a", "a", name="x")(charge)


@case
def arguments_forgotten():
    @Handlers().on  # type: ignore[call-arg, arg-type]
    async def charge(payment: Payment) -> None: ...


@case
def topic_that_is_no_text():
    declare(7)(charge)


# --- resources --------------------------------------------------------------------------------------------------------


@case
def type_that_no_resource_yields():
    handlers = Handlers()

    @handlers.on("a", **on)
    async def charge(payment: Payment, psp: Psp) -> None: ...

    handlers.check()


@case
def several_problems_at_once():
    handlers = Handlers()

    @handlers.resource
    async def bank() -> AsyncIterator[Bank]:
        yield Bank()

    async def ask(psp: Psp) -> NotDone:
        raise NotImplementedError

    @handlers.on("a", "b", key=KEY, name="pay", mode=AtMostOnce(reconcile=ask))
    async def charge(payment: Payment, bank: Bank, tx: Psp | None) -> None: ...

    handlers.check()


@case
def resource_with_tx_in_a_mode_without():
    handlers = Handlers()

    @handlers.resource
    async def bank(tx: Tx) -> AsyncIterator[Bank]:
        yield Bank()

    @handlers.on("a", **on)
    async def charge(payment: Payment, bank: Bank) -> None: ...

    async def ask(bank: Bank) -> NotDone:
        raise NotImplementedError

    @handlers.on("b", key=KEY, mode=AtMostOnce(reconcile=ask))
    async def refund(payment: Payment) -> None: ...

    handlers.check()


@case
def two_resources_of_one_type():
    handlers = Handlers()

    @handlers.resource
    async def bank() -> AsyncIterator[Bank]:
        yield Bank()

    @handlers.resource
    async def other_bank() -> AsyncIterator[Bank]:
        yield Bank()


@case
def resource_that_is_no_generator():
    @Handlers().resource  # type: ignore[type-var]
    async def bank() -> Bank:
        raise NotImplementedError


@case
def resource_that_is_a_sync_generator():
    @Handlers().resource  # type: ignore[type-var]
    def bank() -> Iterator[Bank]:
        yield Bank()


@case
def resource_that_does_not_say_what_it_yields():
    @Handlers().resource
    async def bank():
        yield Bank()


@case
def resource_of_anything():
    @Handlers().resource
    async def bank() -> AsyncIterator[Any]:
        yield Bank()


@case
def resource_that_asks_for_another():
    @Handlers().resource
    async def bank(psp: Psp) -> AsyncIterator[Bank]:
        yield Bank()


# --- reconcile --------------------------------------------------------------------------------------------------------


@case
def reconcile_not_async():
    def ask(ctx: Context) -> NotDone:
        raise NotImplementedError

    declare(mode=AtMostOnce(reconcile=ask))(charge)


@case
def reconcile_that_is_no_function():
    declare(mode=AtMostOnce(reconcile=7))(charge)  # type: ignore[arg-type]


@case
def reconcile_without_annotation():
    async def ask(ctx) -> NotDone:
        raise NotImplementedError

    declare(mode=AtMostOnce(reconcile=ask))(charge)


@case
def reconcile_with_tx():
    async def ask(ctx: Context, tx: Tx) -> NotDone:
        raise NotImplementedError

    declare(mode=AtMostOnce(reconcile=ask))(charge)


@case
def reconcile_that_answers_yes_or_no():
    async def ask(ctx: Context) -> bool:
        raise NotImplementedError

    declare(mode=AtMostOnce(reconcile=ask))(charge)


@case
def reconcile_that_answers_nothing_at_times():
    async def ask(ctx: Context) -> Done[str] | None:
        raise NotImplementedError

    declare(mode=AtMostOnce(reconcile=ask))(charge)


@case
def backoff_without_an_attempt():
    Backoff(attempts=0)


# --- webhooks ---------------------------------------------------------------------------------------------------------


class Partner:
    """As much of a provider as a registry looks at."""

    name = "partner"
    retry_horizon = 75 * 3600 + 35 * 60

    def verify(self) -> None: ...


def hook(**more: Any) -> Handlers:
    handlers = Handlers()
    handlers.on("payments.requested", **on, same=("amount",), **more)(charge)
    return handlers


@case
def webhook_that_nobody_hears():
    handlers = hook()
    handlers.webhook("/hooks/partner", Partner(), topic="payments.request")
    handlers.webhook("/hooks/other", Partner(), topic="x")
    handlers.check()


@case
def webhook_with_a_tenant_that_the_handler_does_not_have():
    handlers = hook()
    handlers.webhook("/hooks/partner", Partner(), topic="payments.requested", tenant=lambda _: "acme")
    handlers.check()


@case
def webhook_with_a_tenant_that_the_handler_reads_elsewhere():
    handlers = hook(tenant=Key.field("account", "number"))
    handlers.webhook("/hooks/partner", Partner(), topic="payments.requested", tenant=lambda _: "acme")
    handlers.check()


@case
def webhook_that_repeats_for_longer_than_the_handler_remembers():
    handlers = hook(retention=timedelta(hours=75, minutes=35))
    handlers.webhook("/hooks/partner", Partner(), topic="payments.requested")
    handlers.check()


# --- endpoints --------------------------------------------------------------------------------------------------------


def endpoint(translate: Any) -> None:
    handlers = hook()
    handlers.endpoint("POST", "/payments", charge, tenant=single_tenant, translate=translate)


@case
def translation_that_makes_another_type():
    """Its annotations are texts here, as in most modules."""

    def translate(body: Plain) -> Account:
        raise NotImplementedError

    endpoint(translate)


@case
def translation_that_makes_nothing():
    def translate(body: Plain) -> None: ...

    endpoint(translate)


# --- registries -------------------------------------------------------------------------------------------------------


@case
def include_of_something_else():
    Handlers().include(charge)  # type: ignore[arg-type]


@case
def find_of_a_stranger():
    Handlers().find(charge)


@case
def app_without_a_name():
    App("")


# --- the tests --------------------------------------------------------------------------------------------------------


def said(misuse: Callable[[], object]) -> str:
    with pytest.raises(RegistrationError) as caught:
        misuse()
    return re.sub(r"\.py:\d+\)", ".py:N)", str(caught.value)).replace(f"{misuse.__name__}.", "")


def read(text: str) -> dict[str, str]:
    return {
        name: body.strip()
        for name, body in re.findall(r"^\[(\w+)\]\n((?:(?!\[\w+\]$).*\n?)*)", text, re.MULTILINE)
    }


def test_the_golden_file_holds_every_case_and_no_other():
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text("\n".join(f"[{name}]\n{said(misuse)}\n" for name, misuse in CASES.items()))
    assert list(read(GOLDEN.read_text())) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_error_reads_as_in_the_golden_file(name):
    assert said(CASES[name]) == read(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", CASES)
def test_every_line_says_where(name):
    exempt = {
        "app_without_a_name",
        "backoff_without_an_attempt",
        "include_of_something_else",
        "no_function",
        "reconcile_that_is_no_function",
    }
    for line in said(CASES[name]).splitlines():
        assert re.match(r"(\S+:\S+ \(test_declare_errors\.py:N\)|webhook /\S+): \S", line) or name in exempt
