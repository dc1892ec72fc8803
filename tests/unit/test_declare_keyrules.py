"""Where a key comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import AtMostOnce, Handlers, Key, Message
from consumer.declare.keyrules import rule_of
from consumer.rules.keys import BadKey, checked


class Account(msgspec.Struct):
    number: int


class Payment(msgspec.Struct, rename="camel"):
    payment_id: str = ""
    account: Account | None = None


@dataclass
class Plain:
    ident: Any


def message(value: bytes | None = b"{}", **fields: Any) -> Message:
    return Message("payments.requested", value, **fields)


def find(rule: Any, payload: Any = None, arrived: Message | None = None) -> bytes:
    return checked(rule_of(rule).find(payload, arrived or message()))


def why(rule: Any, payload: Any = None, arrived: Message | None = None) -> str:
    with pytest.raises(BadKey) as caught:
        find(rule, payload, arrived)
    return str(caught.value)


# --- field ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "payload", "key"),
    [
        (Key.field("payment_id"), Payment("p-1"), b"p-1"),
        (Key.field("payment_id"), Payment(" p "), b" p "),
        (Key.field("account", "number"), Payment("p", Account(7)), b"7"),
        (Key.field("ident"), Plain(b"\x00\xff"), b"\x00\xff"),
        (Key.field("ident"), Plain(0), b"0"),
        (Key.field("ident"), Plain(-(2**70)), str(-(2**70)).encode()),
        (
            Key.field("ident"),
            Plain(UUID("{12345678-1234-5678-1234-56781234567F}")),
            b"12345678-1234-5678-1234-56781234567f",
        ),
        (Key.field("a", "b"), {"a": {"b": "x"}}, b"x"),
        (Key.field("a", "b"), {"a": Plain("y"), "b": "z"} | {"a": {"b": "y"}}, b"y"),
    ],
)
def test_a_field_is_the_key(rule, payload, key):
    assert find(rule, payload) == key


@pytest.mark.parametrize(
    ("rule", "payload", "reason"),
    [
        (Key.field("payment_id"), Payment(""), "key: empty"),
        (Key.field("payment_id"), Payment("k" * 256), "key: 256 bytes, at most 255 are allowed"),
        (Key.field("account", "number"), Payment("p"), "key: missing"),
        (Key.field("a"), {}, "key: missing"),
        (Key.field("a"), {"a": None}, "key: missing"),
        (Key.field("a", "b"), {"a": "text"}, "key: missing"),
        (Key.field("a"), {"a": True}, "key: must be text, bytes, an integer or a UUID, not bool"),
        (Key.field("a"), {"a": 1.0}, "key: must be text, bytes, an integer or a UUID, not float"),
        (Key.field("a"), {"a": {"b": 1}}, "key: must be text, bytes, an integer or a UUID, not dict"),
        (Key.field("a"), {"a": "\ud800"}, "key: not encodable as UTF-8 (a lone surrogate)"),
    ],
)
def test_a_field_that_is_no_key_says_why(rule, payload, reason):
    assert why(rule, payload) == reason


# --- header, record, position -----------------------------------------------------------------------------------------


def test_a_header_is_the_key_and_its_name_is_compared_as_it_is():
    arrived = message(headers=(("Id", b"no"), ("id", b"yes"), ("id", b"yes")))
    assert find(Key.header("id"), None, arrived) == b"yes"
    assert why(Key.header("ID"), None, arrived) == "key: missing"


def test_a_header_with_two_values_names_nothing():
    arrived = message(headers=(("id", b"one"), ("id", b"two")))
    assert why(Key.header("id"), None, arrived) == "key: the header 'id' occurs 2 times with different values"


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"record_key": b"\x00k", "source": "kafka"}, b"\x00k"),
        ({"record_key": b"k", "ordering_key": "other", "source": "kafka"}, b"k"),
        ({"ordering_key": "account-1", "source": "embedded"}, b"account-1"),
    ],
)
def test_the_record_key_is_the_key(fields, key):
    assert find(Key.record(), None, message(**fields)) == key


@pytest.mark.parametrize("fields", [{"source": "kafka", "ordering_key": "x"}, {"source": "embedded"}])
def test_a_record_without_a_key_has_none(fields):
    assert why(Key.record(), None, message(**fields)) == "key: missing"


def test_the_position_is_the_key_where_there_is_one():
    assert find(Key.position(), None, message(position="t/3/17", source="kafka")) == b"t/3/17"
    assert (
        why(Key.position(), None, message())
        == "key: Key.position() needs a Kafka position, which a message from embedded has not"
    )


# --- CloudEvents ------------------------------------------------------------------------------------------------------

EVENT = b'{"specversion":"1.0","source":"/shop","id":"e-1","type":"x","data":{"id":"inner"}}'


@pytest.mark.parametrize(
    ("value", "headers", "key"),
    [
        (b"{}", {"ce_source": b"/shop", "ce_id": b"e-1"}, b"/shop e-1"),
        (b"{}", {"ce-source": b"/shop%20", "ce-id": b"e%2D1"}, None),
        (b"{}", {"ce-source": b"/shop", "ce-id": b"e%2D1"}, b"/shop e-1"),
        (b"{}", {"ce_source": b"/shop", "ce_id": b"e%2D1"}, b"/shop e%2D1"),
        (b"{}", {"ce_source": b"/shop", "ce_id": b"a b"}, b"/shop a b"),
        (EVENT, {}, b"/shop e-1"),
        (EVENT, {"ce_id": b"half"}, b"/shop e-1"),
        (b"{}", {"ce_source": b"", "ce_id": b"e"}, None),
        (b"{}", {"ce_source": b"\xff", "ce_id": b"e"}, None),
        (b'{"source":"/shop","id":"e-1"}', {}, None),
        (b'{"specversion":"1.0","source":"/shop","id":7}', {}, None),
        (b'{"specversion":"1.0","source":"/shop\xff","id":"e-1"}', {}, None),
        (b"[" * 5000, {}, None),
        (None, {}, None),
        (b"", {}, None),
    ],
)
def test_cloudevents(value, headers, key):
    arrived = message(value, headers=tuple(headers.items()))
    if key is None:
        assert why(Key.cloudevent(), None, arrived).startswith("key: ")
    else:
        assert find(Key.cloudevent(), None, arrived) == key


@given(*[st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=4)] * 4)
def test_two_events_have_one_key_only_if_they_are_one(source, ident, other_source, other_ident):
    def key(one: str, two: str) -> bytes:
        return find(
            Key.cloudevent(), None, message(headers=(("ce_source", one.encode()), ("ce_id", two.encode())))
        )

    assert (key(source, ident) == key(other_source, other_ident)) == (
        (source, ident) == (other_source, other_ident)
    )


# --- functions --------------------------------------------------------------------------------------------------------


def by_account(payment: Payment) -> str:
    return f"{payment.account.number}"  # type: ignore[union-attr]


def test_a_function_of_the_payload_is_a_rule():
    assert find(by_account, Payment("p", Account(9))) == b"9"
    assert find(lambda payment: payment.payment_id.encode(), Payment("p")) == b"p"
    assert why(lambda _: None) == "key: missing"
    assert why(lambda _: 1.5) == "key: must be text, bytes, an integer or a UUID, not float"


def test_what_a_function_raises_is_a_reason_without_values():
    assert why(by_account, Payment("4111111111111111")) == "key: by_account raised AttributeError"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Key.field("a"), "Key.field('a')"),
        (Key.field("a", "b"), "Key.field('a', 'b')"),
        (Key.header("id"), "Key.header('id')"),
        (Key.record(), "Key.record()"),
        (Key.cloudevent(), "Key.cloudevent()"),
        (Key.position(), "Key.position()"),
        (rule_of(by_account), "by_account"),
    ],
)
def test_a_rule_reads_as_it_is_written(rule, text):
    assert repr(rule) == text


# --- in a handler -----------------------------------------------------------------------------------------------------


def handler(**options: Any) -> Any:
    handlers = Handlers()

    @handlers.on("payments.requested", **{"key": Key.field("payment_id"), "mode": AtMostOnce(), **options})
    async def take(payment: dict[str, Any]) -> None: ...

    return handlers.find(take)


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ((), "public"),
        ((("tenant", b""),), "public"),
        ((("tenant", b"acme"),), "acme"),
        ((("tenant", b"A b~"),), "A b~"),
        ((("tenant", b"t" * 64),), "t" * 64),
    ],
)
def test_tenants(headers, tenant):
    arrived = message(headers=headers)
    assert handler(tenant=Key.header("tenant")).tenant_of({}, arrived) == tenant
    assert handler().tenant_of({}, arrived) == "public"


@pytest.mark.parametrize("bad", [b"t" * 65, b"a\nb", "grün".encode(), b"\x00", b"\x7f"])
def test_tenants_that_cannot_be_one(bad):
    with pytest.raises(BadKey) as caught:
        handler(tenant=Key.header("tenant")).tenant_of({}, message(headers=(("tenant", bad),)))
    assert str(caught.value) == "tenant: must be 1 to 64 printable ASCII characters"


def test_two_tenants_are_none():
    with pytest.raises(BadKey) as caught:
        handler(tenant=Key.header("tenant")).tenant_of(
            {}, message(headers=(("tenant", b"a"), ("tenant", b"b")))
        )
    assert str(caught.value) == "tenant: the header 'tenant' occurs 2 times with different values"


def test_a_tenant_may_be_a_field_or_a_function():
    assert handler(tenant=Key.field("shop")).tenant_of({"shop": 7}, message()) == "7"
    assert handler(tenant=lambda payload: payload["shop"]).tenant_of({"shop": "x"}, message()) == "x"
    with pytest.raises(BadKey, match="tenant: .* raised KeyError"):
        handler(tenant=lambda payload: payload["shop"]).tenant_of({}, message())


def test_the_fingerprint_is_over_the_bytes_unless_fields_are_named():
    raw, fields = handler(), handler(same=("amount",))
    one, other = message(b'{"amount":1,"x":2}'), message(b'{"x":3, "amount":1}')
    assert raw.fingerprint_of(raw.decode(one), one) != raw.fingerprint_of(raw.decode(other), other)
    assert fields.fingerprint_of(fields.decode(one), one) == fields.fingerprint_of(
        fields.decode(other), other
    )


def test_a_fingerprint_that_cannot_be_made_is_a_reason():
    with pytest.raises(BadKey, match=r"same=\('amount',\) cannot be compared \(TypeError\)"):
        handler(same=("amount",)).fingerprint_of({"amount": object()}, message())
