"""What a handler is handed of its attempt, and what it publishes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from consumer import ConsumerError, Context, Message
from consumer.rules import keys
from consumer.rules.decode import LONGEST_BODY

ENTRY = bytes(range(16))
ARRIVED = Message("payments.requested", b"{}")


def context(**fields: Any) -> Context:
    return Context(
        **{
            "identity": ENTRY,
            "key": b"p-1",
            "tenant": "public",
            "token": 7,
            "attempt": 2,
            "message": ARRIVED,
            **fields,
        }
    )


class Payment(msgspec.Struct):
    payment_id: str


@dataclass
class Plain:
    ident: int


def test_what_it_knows():
    ctx = context(tenant="acme")
    assert (ctx.key, ctx.tenant, ctx.fencing_token, ctx.attempt, ctx.message) == (
        "p-1",
        "acme",
        7,
        2,
        ARRIVED,
    )
    assert ctx.idempotency_key == keys.idempotency_key(ENTRY)


def test_a_key_that_is_not_utf8_can_be_restored():
    key = b"\xff\x00\xc3"
    assert context(key=key).key.encode("utf-8", "surrogateescape") == key


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (Payment("p"), b'{"payment_id":"p"}'),
        (Plain(1), b'{"ident":1}'),
        ({"a": [1, None]}, b'{"a":[1,null]}'),
        ("text", b'"text"'),
        (0, b"0"),
        (b"\xff as it is", b"\xff as it is"),
        (b"", b""),
        (bytearray(b"x"), b"x"),
    ],
)
def test_a_value_is_encoded_at_once(value, body):
    ctx = context()
    ctx.publish("t", value)
    assert ctx.published[0].value == body


def test_a_change_after_publishing_does_not_leave():
    ctx, value = context(), {"a": 1}
    ctx.publish("t", value)
    value["a"] = 2
    assert ctx.published[0].value == b'{"a":1}'


def test_ids_are_the_same_in_every_attempt_and_differ_by_place():
    first, second = context(attempt=1, token=7), context(attempt=2, token=9)
    for ctx in (first, second):
        ctx.publish("a", 1)
        ctx.publish("a", 1)
    assert [out.id for out in first.published] == [out.id for out in second.published]
    assert [out.id for out in first.published] == [keys.outgoing_id(ENTRY, 0), keys.outgoing_id(ENTRY, 1)]


def test_everything_that_is_given_is_kept():
    ctx = context()
    ctx.publish("t", 1, ordering_key="acc", headers={"a": "é"}, delay=timedelta(minutes=1))
    ctx.publish("t", 1, headers=[("a", b"\xff"), ("a", b"2")], delay=0.5)
    first, second = ctx.published
    assert (first.topic, first.ordering_key, first.delay) == ("t", "acc", 60.0)
    assert first.headers == (("a", "é".encode()),)
    assert (second.headers, second.delay, second.ordering_key) == ((("a", b"\xff"), ("a", b"2")), 0.5, None)


@pytest.mark.parametrize(
    ("tenant", "given", "headers"),
    [
        ("public", {}, ()),
        ("acme", {}, (("tenant", b"acme"),)),
        ("acme", {"x": "1"}, (("x", b"1"), ("tenant", b"acme"))),
        ("acme", {"tenant": "other"}, (("tenant", b"other"),)),
        ("public", {"tenant": "other"}, (("tenant", b"other"),)),
    ],
)
def test_the_tenant_is_carried_on_unless_it_is_given(tenant, given, headers):
    ctx = context(tenant=tenant)
    ctx.publish("t", 1, headers=given)
    assert ctx.published[0].headers == headers


def test_the_longest_value_passes_and_one_byte_more_does_not():
    ctx = context()
    ctx.publish("t", b"x" * LONGEST_BODY)
    with pytest.raises(ValueError, match=r"publish\('t'\): 1048577 bytes, at most 1048576 are allowed"):
        ctx.publish("t", "x" * (LONGEST_BODY - 1))
    assert len(ctx.published) == 1


@pytest.mark.parametrize(
    ("topic", "value", "options", "fault"),
    [
        ("a b", 1, {}, "is no topic"),
        ("", 1, {}, "is no topic"),
        ("..", 1, {}, "is no topic"),
        ("t" * 201, 1, {}, "is no topic"),
        ("t", None, {}, "None is no value"),
        ("t", 1, {"delay": -1}, "delay must be 0 or more seconds"),
        ("t", 1, {"delay": float("nan")}, "delay must be 0 or more seconds"),
        ("t", 1, {"delay": float("inf")}, "delay must be 0 or more seconds"),
        ("t", 1, {"ordering_key": ""}, "ordering_key is empty"),
        ("t", 1, {"headers": {"message-id": "x"}}, "the header 'message-id' is written by the sink"),
        ("t", 1, {"headers": {"ordering-key": "x"}}, "the header 'ordering-key' is written by the sink"),
        (
            "t",
            1,
            {"headers": {"message-sequence": "x"}},
            "the header 'message-sequence' is written by the sink",
        ),
        ("t", 1, {"headers": {"": "x"}}, "a header without a name"),
        ("t", 1, {"headers": {"a": 1}}, "the header 'a' must be text or bytes, not int"),
    ],
)
def test_what_is_out_of_range_is_refused_and_nothing_leaves(topic, value, options, fault):
    ctx = context()
    with pytest.raises(ValueError, match=fault):
        ctx.publish(topic, value, **options)
    assert ctx.published == ()


def test_what_cannot_be_encoded_is_refused():
    ctx = context()
    with pytest.raises(TypeError):
        ctx.publish("t", object())
    assert ctx.published == ()


def test_after_the_attempt_nothing_can_be_published():
    ctx = context()
    ctx.publish("t", 1)
    before = ctx.published
    ctx.revoke()
    with pytest.raises(ConsumerError, match=r"publish\('t'\) after its attempt was over"):
        ctx.publish("t", 2)
    assert ctx.published == before
