"""The `Idempotency-Key` header: what is a key, what is none, and which spellings are one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.http.key import KeyMalformed, KeyMissing, key_of
from tests.http.shopkit import PAYMENT, code_of, replayed

SAME = [
    b"k-1",
    b'"k-1"',
    b"  k-1\t",
    b' "k-1" ',
    b'"k-1";a',
    b'"k-1"; a=1;b="x\\"y" ;c=?1'.replace(b" ;", b";"),
    b'"k-1";v=1.5;t=tok/en:x;b=:AAA=:',
    b"k-1;a=1",
]
MALFORMED = {
    "empty": b"",
    "blank": b"  ",
    "empty, quoted": b'""',
    "only a parameter": b";a=1",
    "a comma": b"a,b",
    "two strings": b'"a", "b"',
    "a space": b"a b",
    "a control": b"a\x01b",
    "a null": b"a\x00",
    "delete": b"a\x7f",
    "not ASCII": "schlüssel".encode(),
    "ISO 8859-1": b"schl\xfcssel",
    "not ASCII, quoted": '"schlüssel"'.encode(),
    "a control, quoted": b'"a\tb"',
    "not closed": b'"abc',
    "closed twice": b'"abc""',
    "text behind": b'"abc"d',
    "a quotation mark within": b'ab"c',
    "another escape": b'"a\\b"',
    "an escape at the end": b'"a\\',
    "a parameter without a name": b'"a";=1',
    "a parameter in capitals": b'"a";A=1',
    "256 bytes": b"k" * 256,
    "256 bytes, quoted": b'"' + b"k" * 256 + b'"',
}


@pytest.mark.parametrize("value", SAME)
def test_spellings_of_one_key(value):
    assert key_of([value]) == "k-1"


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_key(value):
    with pytest.raises(KeyMalformed):
        key_of([value])


def test_no_header_is_missing_and_two_are_malformed():
    with pytest.raises(KeyMissing):
        key_of([])
    with pytest.raises(KeyMalformed):
        key_of([b"a", b"b"])
    with pytest.raises(KeyMalformed):
        key_of([b"a", b"a"])


@pytest.mark.parametrize("length", [1, 2, 254, 255])
def test_lengths_are_counted_after_unquoting(length):
    assert len(key_of([b'"' + b"k" * length + b'"'])) == length
    assert len(key_of([b'"' + b"\\\\" * length + b'"'])) == length


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_string_comes_back_from_its_quoted_form(text):
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert key_of([quoted.encode()]) == text


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_any_bytes_are_a_key_or_refused(values):
    try:
        key = key_of(values)
    except (KeyMissing, KeyMalformed):
        return
    assert len(values) == 1
    assert key.isascii()
    assert key.isprintable()
    assert 1 <= len(key) <= 255


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "value", [b'"k"' + b";a" * 30_000 + b"!", b"k" + b";a=1" * 15_000 + b",", b'"' + b"\\\\" * 30_000]
)
def test_a_hostile_value_takes_no_time(value):
    with pytest.raises(KeyMalformed):
        key_of([value])


async def test_every_spelling_reaches_one_entry(site):
    first = await site.pay("k-1")
    for value in SAME:
        again = await site.pay(value)
        assert (again.status_code, again.content, replayed(again)) == (201, first.content, True), value
    assert await site.rows() == 1


async def test_case_and_escapes_are_part_of_a_key(site):
    for value in ("k-1", "K-1", '"k\\\\1"', '"k\\"1"', '"k 1"', "'k-1'"):
        reply = await site.pay(value)
        assert (reply.status_code, replayed(reply)) == (201, False), value
    assert await site.rows() == 6
    assert {entry.key for entry in await site.entries("payments.requested")} == {
        b"k-1",
        b"K-1",
        b"k\\1",
        b'k"1',
        b"k 1",
        b"'k-1'",
    }


async def test_the_longest_key_and_one_byte_more(site):
    longest = await site.pay("k" * 255)
    assert (longest.status_code, longest.json()["payment_id"]) == (201, "k" * 255)
    assert replayed(await site.pay('"' + "k" * 255 + '"'))
    over = await site.pay("k" * 256)
    assert (over.status_code, code_of(over)) == (400, "key-malformed")


async def test_what_is_no_key_is_refused_and_stores_nothing(site):
    missing = await site.pay(None)
    assert (missing.status_code, code_of(missing)) == (400, "key-missing")
    for name, value in MALFORMED.items():
        reply = await site.pay(value)
        assert (reply.status_code, code_of(reply)) == (400, "key-malformed"), name
    twice = await site.post("/payments", None, PAYMENT, [("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert (twice.status_code, code_of(twice)) == (400, "key-malformed")
    assert await site.entries() == []
