"""Identity, fingerprint and ids are frozen: an entry of today must be found by every later version."""

from __future__ import annotations

import dataclasses
import hashlib
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.message import Message
from consumer.rules import keys
from consumer.rules.keys import BadKey

# Never to be changed. `by_hand` spells out how they come about, for whoever writes a store in another language.
IDENTITIES = {
    ("shop", "public", "payments.requested", b"p-1"): "431af75671c3d1b3e33535f2ec8ba816",
    ("shop", "acme", "payments.requested", b"p-1"): "3f4c4a0d63fde48845007d7cfc956e9a",
    ("shop", "public", "payments.requested", b"p-2"): "c96f006e32a7a33ec6aab7e14c7800c7",
    ("shop", "public", "grüße", "schlüssel".encode()): "1f042d68ad84e9513d4b809cd6cb95bb",
    ("a", "b", "c", b"\x00\xff"): "dbcdded4f3c8f9de91e779dbedbfdc8b",
    ("shop", "public", "payments.requested", b"k" * 255): "673da660aafd05bfdf412e071c28bba2",
}
ENTRY = bytes(range(16))


def by_hand(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()[:16]


@pytest.mark.parametrize(("parts", "expected"), IDENTITIES.items())
def test_identities_are_frozen(parts, expected):
    app, tenant, handler, key = parts
    assert keys.identity(*parts).hex() == expected
    assert by_hand(app.encode(), tenant.encode(), handler.encode(), key).hex() == expected


class Payment(msgspec.Struct):
    account: str
    amount: int
    currency: str
    note: str = ""


SAME = ("account", "amount", "currency")


@pytest.mark.parametrize(
    ("found", "expected", "spelled_out"),
    [
        (
            keys.fingerprint_of_bytes(b'{"a":1}'),
            "07f46d9e78901002a499e0c96160296a",
            by_hand(b"bytes", b'{"a":1}'),
        ),
        (keys.fingerprint_of_bytes(None), "e22b599fe88a62e4290ceeac4ff952ec", by_hand(b"bytes", b"")),
        (
            keys.fingerprint_of_fields(Payment("a", 1, "EUR"), SAME),
            "bb01e0333f72f6af2cd1b45100d774c0",
            by_hand(b"fields", b"account", b"amount", b"currency", b'["a",1,"EUR"]'),
        ),
        (
            keys.fingerprint_of_fields({"account": "a"}, ("account",)),
            "e8d14a149519b35a91e7ba2b3dd9779c",
            by_hand(b"fields", b"account", b'["a"]'),
        ),
        (
            keys.outgoing_id(ENTRY, 0),
            "9443921515dd1fe6ab00b901773b483c",
            by_hand(b"outgoing", ENTRY, bytes(4)),
        ),
        (
            keys.outgoing_id(ENTRY, 1),
            "9f440d1644ec0e84e92bb4c87b3aaa9d",
            by_hand(b"outgoing", ENTRY, b"\x00\x00\x00\x01"),
        ),
        (
            keys.born_dead_identity(
                "shop", None, "h", "decode", Message("t", b"x", headers=(("a", b"1"),), record_key=b"k")
            ),
            "7e0891cf6bc5472e4fe043ae3b9b111e",
            by_hand(
                b"born-dead",
                b"shop",
                b"public",
                b"h",
                b"decode",
                hashlib.sha256(
                    b"\x00\x00\x00\x01\x01"  # there is a value
                    b"\x00\x00\x00\x02\x01k"  # there is a record key
                    b"\x00\x00\x00\x0a\x00\x00\x00\x01a\x00\x00\x00\x011"  # headers
                    b"\x00\x00\x00\x01x"  # the value
                ).digest(),
            ),
        ),
        (
            keys.born_dead_identity("shop", "acme", "h", "conflict", Message("t", None)),
            "42f82befffca883d9fec03288d1ef5ba",
            by_hand(
                b"born-dead",
                b"shop",
                b"acme",
                b"h",
                b"conflict",
                hashlib.sha256(b"\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00" + bytes(8)).digest(),
            ),
        ),
    ],
)
def test_fingerprints_and_ids_are_frozen(found, expected, spelled_out):
    assert (found.hex(), spelled_out.hex()) == (expected, expected)


def test_idempotency_keys_are_frozen_and_fit_every_header():
    assert keys.idempotency_key(ENTRY) == "kira327rkghp6abqjx4y54z2ga"


# --- what a key may be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [("p", b"p"), (" p ", b" p "), ("é", "é".encode()), (b"\x00\xff", b"\x00\xff"), ("k" * 255, b"k" * 255)],
)
def test_a_key_is_taken_as_it_is(key, expected):
    assert keys.checked(key) == expected


def test_composed_and_decomposed_letters_are_two_keys():
    assert keys.checked("\u00e9") != keys.checked("e\u0301")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "key: missing"),
        ("", "key: empty"),
        (b"", "key: empty"),
        ("k" * 256, "key: 256 bytes, at most 255 are allowed"),
        ("é" * 128, "key: 256 bytes, at most 255 are allowed"),
        (1, "key: must be text or bytes, not int"),
        (True, "key: must be text or bytes, not bool"),
        (UUID(int=0), "key: must be text or bytes, not UUID"),
        ("\ud800", "key: not encodable as UTF-8 (a lone surrogate)"),
    ],
)
def test_what_is_no_key_says_why(key, why):
    with pytest.raises(BadKey) as caught:
        keys.checked(key)
    assert str(caught.value) == why


# --- properties -------------------------------------------------------------------------------------------------------

PARTS = st.tuples(
    st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.binary(min_size=1, max_size=6)
)


@given(PARTS, PARTS)
def test_other_parts_are_another_identity(one, other):
    assert (keys.identity(*one) == keys.identity(*other)) == (one == other)


@given(
    st.text(min_size=2, max_size=12),
    st.integers(1, 11),
    st.integers(1, 11),
    st.binary(min_size=1, max_size=4),
)
def test_no_letter_moves_over_from_one_part_to_the_next(text, first, second, key):
    splits = {(text[:cut], text[cut:]) for cut in (first, second) if cut < len(text)}
    assert len({keys.identity(app, tenant, "h", key) for app, tenant in splits}) == len(splits)


@given(st.text(min_size=1, max_size=63))
def test_every_encodable_text_of_fitting_length_is_a_key_and_comes_back(text):
    assert keys.checked(text).decode() == text


HEADERS = st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=3).map(tuple)
MESSAGES = st.builds(
    Message,
    topic=st.just("t"),
    value=st.none() | st.binary(max_size=4),
    headers=HEADERS,
    record_key=st.none() | st.binary(max_size=3),
)


def content(message: Message) -> tuple[object, ...]:
    return message.value, message.headers, message.record_key


@given(MESSAGES, MESSAGES)
def test_what_is_born_dead_has_an_identity_by_its_whole_content(one, other):
    same = keys.born_dead_identity("shop", None, "h", "decode", one) == keys.born_dead_identity(
        "shop", None, "h", "decode", other
    )
    assert same == (content(one) == content(other))


@pytest.mark.parametrize(("why", "same"), [("decode", False), ("key", False), ("conflict", True)])
def test_what_cannot_be_keyed_is_one_dead_letter_per_position(why: str, same: bool) -> None:
    first, again, second = (Message("t", None, position=place) for place in ("t/0/7", "t/0/7", "t/0/8"))
    known = keys.born_dead_identity("shop", None, "h", why, first)
    assert known == keys.born_dead_identity("shop", None, "h", why, again), "a redelivery"
    assert (known == keys.born_dead_identity("shop", None, "h", why, second)) == same


@given(MESSAGES, st.sampled_from(["decode", "key", "conflict"]))
def test_what_is_born_dead_never_meets_an_entry_of_a_key(message, why):
    dead = keys.born_dead_identity("shop", "public", "h", why, message)
    assert dead != keys.identity("shop", "public", "h", message.value or b"k")
    others = {
        keys.born_dead_identity("shop", "public", "h", w, message) for w in ("decode", "key", "conflict")
    }
    assert len(others) == 3


@given(st.integers(), st.text(max_size=5))
def test_the_fingerprint_of_fields_does_not_depend_on_the_payload_s_class_or_other_fields(amount, note):
    @dataclasses.dataclass
    class Plain:
        account: str
        amount: int
        currency: str

    expected = keys.fingerprint_of_fields(Payment("a", amount, "EUR"), SAME)
    assert keys.fingerprint_of_fields(Payment("a", amount, "EUR", note), SAME) == expected
    assert keys.fingerprint_of_fields(Plain("a", amount, "EUR"), SAME) == expected
    assert (
        keys.fingerprint_of_fields({"note": note, "currency": "EUR", "amount": amount, "account": "a"}, SAME)
        == expected
    )
    assert keys.fingerprint_of_fields(Payment("a", amount + 1, "EUR"), SAME) != expected
    assert keys.fingerprint_of_fields(Payment("a", amount, "EUR"), SAME[:2]) != expected


def test_values_do_not_move_over_from_one_field_to_the_next():
    one = keys.fingerprint_of_fields({"a": "x", "b": None}, ("a", "b"))
    assert one != keys.fingerprint_of_fields({"a": None, "b": "x"}, ("a", "b"))
    assert one != keys.fingerprint_of_fields({"a": "x", "c": None}, ("a", "c"))
