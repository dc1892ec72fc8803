"""Every body that cannot be a payload is refused with a clean reason, by what msgspec really does and by our limits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.rules.decode import (
    DEEPEST_BODY,
    LONGEST_BODY,
    LONGEST_REASON,
    Undecodable,
    body,
    decode,
    mistranslated,
)


class Payment(msgspec.Struct):
    payment_id: str
    amount: int
    note: str = ""


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    amount: int


class Colour(Enum):
    RED = "red"


class Bounded(msgspec.Struct):
    amount: Annotated[int, msgspec.Meta(ge=1, le=10**12)]


class Card(msgspec.Struct, tag="card"):
    number: str


class Cash(msgspec.Struct, tag="cash"):
    amount: int


class Raises(msgspec.Struct):
    how: str

    def __post_init__(self) -> None:
        if self.how == "value":
            raise ValueError("4111111111111111 is\nno card")
        if self.how == "key":
            raise KeyError("4111111111111111")
        raise RuntimeError("4111111111111111")


@dataclass
class Plain:
    payment_id: str


class Typed(TypedDict):
    payment_id: str


def of(value: bytes | None, kind: Any) -> Any:
    return decode(value, msgspec.json.Decoder(kind))


def reason(value: bytes | None, kind: Any) -> str:
    with pytest.raises(Undecodable) as caught:
        of(value, kind)
    assert str(caught.value) == caught.value.reason
    assert 0 < len(caught.value.reason) <= LONGEST_REASON
    assert caught.value.reason.isprintable()
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Payment, Payment("p", 1)),
        (dict, {"payment_id": "p", "amount": 1}),
        (Any, {"payment_id": "p", "amount": 1}),
        (Plain, Plain("p")),
        (Typed, {"payment_id": "p"}),
    ],
)
def test_a_body_becomes_the_payload_of_its_type(kind, payload):
    assert of(b'{"payment_id":"p","amount":1}', kind) == payload


@pytest.mark.parametrize(
    ("text", "kind", "payload"), [(b'"x"', str, "x"), (b"3", int, 3), (b"[1]", list[int], [1])]
)
def test_scalars_and_lists_are_payloads_too(text, kind, payload):
    assert of(text, kind) == payload


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, Any, "tombstone: null value"),
        (b"", Any, "empty body"),
        (b" \r\n\t", Any, "empty body"),
        (b"null", Payment, "Expected `object`, got `null`"),
        (b"{", Payment, "Input data was truncated"),
        (b"{}", Payment, "Object missing required field `payment_id`"),
        (b'{"payment_id":"p","amount":1} x', Payment, "JSON is malformed: trailing characters (byte 31)"),
        (b"NaN", Any, "JSON is malformed: invalid character (byte 0)"),
        (b'{"a":Infinity}', dict, "JSON is malformed: invalid character (byte 5)"),
        (b"-Infinity", float, "JSON is malformed: invalid character (byte 1)"),
        (b"1e400", Any, "Number out of range"),
        (b"-1e400", float, "Number out of range"),
        (b"9" * 5000, Any, "Integer value out of range"),
        (b"9" * 5000, int, "Integer value out of range"),
        (b"\xef\xbb\xbf1", Any, "JSON is malformed: invalid character (byte 0)"),
        (b'"\x01"', str, "JSON is malformed: invalid character (byte 1)"),
        (b"01", int, "JSON is malformed: invalid number (byte 1)"),
        (b'{"amount":true}', Strict, "Expected `int`, got `bool` - at `$.amount`"),
        (b'{"amount":1.0}', Strict, "Expected `int`, got `float` - at `$.amount`"),
        (b'{"amount":1e3}', Strict, "Expected `int`, got `float` - at `$.amount`"),
        (b'{"amount":"1"}', Strict, "Expected `int`, got `str` - at `$.amount`"),
        (b'{"amount":1,"more":2}', Strict, "Object contains unknown field `more`"),
        (b'{"amount":0}', Bounded, "Expected `int` >= 1 - at `$.amount`"),
        (b'{"amount":1000000000001}', Bounded, "Expected `int` <= 1000000000000 - at `$.amount`"),
    ],
)
def test_what_is_no_payload_says_why(value, kind, expected):
    assert reason(value, kind) == expected


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    longest = b'"' + b"x" * (LONGEST_BODY - 2) + b'"'
    assert len(of(longest, str)) == LONGEST_BODY - 2
    assert (
        reason(longest[:-1] + b'x"', str)
        == f"too long: {LONGEST_BODY + 1} bytes, at most {LONGEST_BODY} are allowed"
    )


@pytest.mark.parametrize("kind", [Payment, dict, Any, Typed, Plain])
@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"],
    ids=["ff", "surrogate", "overlong", "beyond"],
)
def test_bytes_that_are_not_utf8_are_refused_also_in_fields_that_nobody_declared(kind, bad):
    assert reason(b'{"payment_id":"p","amount":1,"undeclared":"' + bad + b'"}', kind) == "not UTF-8 (byte 43)"
    assert reason(b'{"payment_id":"p","amount":1,"' + bad + b'":1}', kind).startswith("not UTF-8 (byte 30)")


@pytest.mark.parametrize("kind", [Payment, dict, Any])
@pytest.mark.parametrize(
    "escaped",
    [rb"\ud800", rb"\udc00", rb"\ud83dAAAAAAAA", rb"\ud83dA", rb"\ud83d\ud83d", rb"\ude00\ud83d"],
)
@pytest.mark.parametrize("field", [b"payment_id", b"undeclared"])
def test_lone_surrogates_are_refused(kind, escaped, field):
    reason(b'{"' + field + b'":"' + escaped + b'","payment_id":"p","amount":1}', kind)


def test_a_pair_of_surrogates_is_one_character():
    assert of(rb'"\ud83d\ude00"', str) == "\N{GRINNING FACE}"


@pytest.mark.parametrize("kind", [dict, Payment])
def test_of_a_duplicate_key_the_last_one_wins(kind):
    found = of(b'{"payment_id":"first","amount":1,"payment_id":"last"}', kind)
    assert msgspec.to_builtins(found)["payment_id"] == "last"


def test_unknown_fields_are_the_type_s_own_policy():
    assert of(b'{"payment_id":"p","amount":1,"more":2}', Payment) == Payment("p", 1)


# --- depth ------------------------------------------------------------------------------------------------------------


def nested(levels: int, kind: str) -> bytes:
    opening, closing = {"array": (b"[", b"]"), "object": (b'{"a":', b"}")}[kind]
    return opening * levels + (b"1" if kind == "object" else b"") + closing * levels


@pytest.mark.parametrize("kind", ["array", "object"])
def test_the_depth_limit_is_exact(kind):
    of(nested(DEEPEST_BODY, kind), Any)
    assert reason(nested(DEEPEST_BODY + 1, kind), Any) == "nested too deep: at most 100 levels are allowed"


@pytest.mark.parametrize("levels", [999, 10_000, 500_000])
@pytest.mark.parametrize("kind", [Any, list, msgspec.Raw])
def test_a_depth_that_would_end_the_interpreter_is_a_clean_reason(levels, kind):
    assert reason(nested(levels, "array"), kind) == "nested too deep: at most 100 levels are allowed"


@pytest.mark.parametrize("levels", [101, 10_000])
def test_depth_counts_in_fields_that_nobody_declared(levels):
    text = b'{"payment_id":"p","amount":1,"undeclared":' + nested(levels, "array") + b"}"
    assert reason(text, Payment) == "nested too deep: at most 100 levels are allowed"


def test_the_depth_limit_does_not_depend_on_the_caller_s_stack():
    def down(levels: int) -> Any:
        return down(levels - 1) if levels else of(nested(DEEPEST_BODY, "array"), Any)

    assert isinstance(down(sys.getrecursionlimit() // 2), list)


def test_brackets_in_strings_and_side_by_side_are_not_depth():
    many = b"[" + b",".join([b"[]"] * 5000) + b"]"
    assert len(of(many, Any)) == 5000
    assert of(b'["' + b"[{" * 5000 + rb"\"\\" + b'",[]]', Any)[1] == []


# --- reasons ----------------------------------------------------------------------------------------------------------

SECRET = "4111111111111111"


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (f'{{"amount":"{SECRET}"}}', Strict, "Expected `int`, got `str` - at `$.amount`"),
        (f'"{SECRET}"', Colour, "Invalid enum value"),
        (f'["{SECRET} - at `$.x`"]', list[Colour], "Invalid enum value - at `$[0]`"),
        (f'"{SECRET}"', Literal["a", "b"], "Invalid enum value"),
        (f'{{"type":"{SECRET}"}}', Card | Cash, "Invalid value - at `$.type`"),
        (
            f'{{"x":{{"{SECRET}":"y"}}}}',
            dict[str, dict[str, int]],
            "Expected `int`, got `str` - at `$[...][...]`",
        ),
        ('{"how":"key"}', Raises, "KeyError in the payload type's own checks"),
        ('{"how":"other"}', Raises, "RuntimeError in the payload type's own checks"),
    ],
)
def test_reasons_hold_no_values_of_the_payload(value, kind, expected):
    assert reason(value.encode(), kind) == expected


def test_what_a_type_s_own_check_says_is_kept_on_one_line():
    assert reason(b'{"how":"value"}', Raises) == "4111111111111111 is no card"


def test_reasons_are_bounded_and_printable_whatever_the_field_is_called():
    long = reason(b'{"amount":1,"' + b"k" * 5000 + b'":1}', Strict)
    assert len(long) == LONGEST_REASON
    assert long.startswith("Object contains unknown field `kkk")
    assert long.endswith("…")
    assert "\x1b" not in reason(rb'{"amount":1,"\u001b[31m":1}', Strict)


# --- raw bytes --------------------------------------------------------------------------------------------------------


def test_a_handler_of_bytes_gets_any_bytes_but_no_tombstone():
    assert body(b"\xff\x00") == b"\xff\x00"
    assert body(b"") == b""
    with pytest.raises(Undecodable, match="tombstone"):
        body(None)
    with pytest.raises(Undecodable, match="too long"):
        body(b"x" * (LONGEST_BODY + 1))


# --- properties -------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_payload_or_undecodable(value):
    for kind in (Any, Payment, dict[str, int], str, Plain):
        try:
            payload = of(value, kind)
        except Undecodable as fault:
            payload = fault.reason
        msgspec.json.encode(payload)


@settings(deadline=None)
@given(JSON)
def test_what_is_decoded_can_be_encoded_and_is_the_same_again(value):
    payload = of(msgspec.json.encode(value), Any)
    assert of(msgspec.json.encode(payload), Any) == payload


@pytest.mark.parametrize("digits", [19, 20, 40, 4000])
def test_long_integers_keep_every_digit_both_ways(digits):
    text = b"9" * digits
    assert msgspec.json.encode(of(text, Any)) == text


def test_what_a_translation_raises_is_told_without_values():
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.convert({"amount": True}, dict[str, int])
    assert mistranslated(wrong.value) == "in its translation: Expected `int`, got `bool` - at `$[...]`"
    assert mistranslated(ValueError("4711 is secret")) == "ValueError in its translation"
