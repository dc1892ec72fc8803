"""Bodies: what is a payment, and what is refused before its key is looked at."""

from __future__ import annotations

import json

import pytest

from tests.http.shopkit import PAYMENT, code_of

LIMIT = 1024 * 1024


def amount(text: str) -> bytes:
    return b'{"account":"a-1","amount":%s,"currency":"EUR"}' % text.encode()


AMOUNTS = [
    *("0", "-1", "1000000000001", str(2**63), str(2**64), "1" + "0" * 400),
    *("true", "false", "null", '"500"', "[500]", "{}", "500.0", "500.5", "1e3", "1E400", "-0"),
    *("NaN", "Infinity", "-Infinity", "0x10", "0500", "+5", "5_0", "٥"),
]
TAKEN = {
    "the smallest amount": amount("1"),
    "the largest amount": amount(str(10**12)),
    "64 characters": json.dumps(PAYMENT | {"account": "ä" * 64}).encode(),
    "lower case": json.dumps(PAYMENT | {"currency": "eur"}).encode(),
    "escapes": b'{"account":"\\ud83d\\ude00","amount":5,"currency":"EUR"}',
    "white space": b"\r\n\t " + json.dumps(PAYMENT, indent=2).encode() + b"\n",
}
REFUSED = {
    "nothing": b"",
    "white space": b" \n",
    "half": b'{"account":"a-1"',
    "text behind": json.dumps(PAYMENT).encode() + b"x",
    "two values": json.dumps(PAYMENT).encode() * 2,
    "an array": json.dumps([PAYMENT]).encode(),
    "null": b"null",
    "a number": b"5",
    "a string": b'"x"',
    "no account": json.dumps({"amount": 5, "currency": "EUR"}).encode(),
    "no amount": json.dumps({"account": "a", "currency": "EUR"}).encode(),
    "an unknown field": json.dumps(PAYMENT | {"x": 1}).encode(),
    "a payment id": json.dumps(PAYMENT | {"payment_id": "p"}).encode(),
    "an empty account": json.dumps(PAYMENT | {"account": ""}).encode(),
    "65 characters": json.dumps(PAYMENT | {"account": "a" * 65}).encode(),
    "a null character": json.dumps(PAYMENT | {"account": "a\x00b"}).encode(),
    "a lone surrogate": b'{"account":"\\ud800","amount":5,"currency":"EUR"}',
    "two letters": json.dumps(PAYMENT | {"currency": "EU"}).encode(),
    "four letters": json.dumps(PAYMENT | {"currency": "EURO"}).encode(),
    "no letters": json.dumps(PAYMENT | {"currency": "E1R"}).encode(),
    "other letters": json.dumps(PAYMENT | {"currency": "ÄÖÜ"}).encode(),
    "a line end behind": json.dumps(PAYMENT | {"currency": "EUR\n"}).encode(),
    "dotless i": json.dumps(PAYMENT | {"currency": "ıss"}).encode(),
    "a null body in UTF-16": json.dumps(PAYMENT).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(PAYMENT).encode(),
    "no UTF-8": b'{"account":"\xff\xfe","amount":5,"currency":"EUR"}',
    "overlong UTF-8": b'{"account":"\xc0\xaf","amount":5,"currency":"EUR"}',
    "a raw control": b'{"account":"a\nb","amount":5,"currency":"EUR"}',
    "a comment": b'{"account":"a","amount":5,"currency":"EUR"}//',
    "a trailing comma": b'{"account":"a","amount":5,"currency":"EUR",}',
    "single quotes": b"{'account':'a','amount':5,'currency':'EUR'}",
    "deep": b"[" * 100_000,
    "deep in a field": b'{"account":"a","amount":5,"currency":"EUR","x":'
    + b"[" * 5_000
    + b"]" * 5_000
    + b"}",
    "a form": b"account=a&amount=5&currency=EUR",
}


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN)
async def test_a_payment(site, body):
    reply = await site.pay("p-1", body)
    assert reply.status_code == 201, reply.text
    assert reply.json()["currency"] == "EUR"


async def test_what_is_no_payment_burns_no_key(site):
    refused = dict(REFUSED) | {f"amount {text}": amount(text) for text in AMOUNTS}
    for name, body in refused.items():
        reply = await site.pay("p-1", body)
        assert (reply.status_code, code_of(reply)) == (400, "invalid-body"), name
        assert len(reply.json()["detail"]) <= 200, name
    assert await site.entries() == []
    assert (await site.pay("p-1")).status_code == 201


async def test_what_is_no_order_burns_no_key(site):
    line = {"sku": "s-1", "qty": 1}
    wrong: list[object] = [None, {}, "x", [1], [{}], [{"sku": "s-1"}], [line | {"x": 1}]]
    wrong += [[line | {"qty": qty}] for qty in (0, -1, 10**6 + 1, True, 1.5, "1", None)]
    for lines in wrong:
        reply = await site.post("/orders", "o-1", PAYMENT | {"lines": lines})
        assert (reply.status_code, code_of(reply)) == (400, "invalid-body"), lines
    assert code_of(await site.post("/orders", "o-1", PAYMENT)) == "invalid-body"
    assert (
        code_of(await site.post("/orders", "o-1", PAYMENT | {"lines": [], "order_id": "o-1"}))
        == "invalid-body"
    )
    assert await site.entries() == []
    assert (await site.post("/orders", "o-1", PAYMENT | {"lines": [line]})).status_code == 201


async def test_of_two_members_of_one_name_the_last_counts(site):
    reply = await site.pay("p-1", b'{"account":"a","account":"b","amount":1,"amount":2,"currency":"EUR"}')
    assert (reply.status_code, reply.json()["account"], reply.json()["amount"]) == (201, "b", 2)


async def test_reasons_show_no_values(site):
    reply = await site.pay(
        "p-1", json.dumps({"account": "a", "amount": "4111-1111", "currency": "EUR"}).encode()
    )
    assert "4111" not in reply.text


async def test_a_body_may_be_a_mebibyte_and_no_byte_more(site):
    head, tail = b'{"account":"a","amount":5,', b'"currency":"EUR"}'
    fits = head + b" " * (LIMIT - len(head) - len(tail)) + tail
    assert (await site.pay("p-1", fits)).status_code == 201
    reply = await site.pay("p-2", fits + b" ")
    assert (reply.status_code, code_of(reply)) == (413, "too-large")
    assert reply.headers["connection"] == "close"


async def test_a_body_of_unknown_length_is_counted_while_it_comes(site):
    async def pieces():
        for _ in range(20):
            yield b" " * 65_536

    reply = await site.client.post("/payments", content=pieces(), headers={"Idempotency-Key": "p-1"})
    assert (reply.status_code, code_of(reply)) == (413, "too-large")
    assert await site.entries() == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
async def test_compressed_bodies_are_refused(site, encoding):
    reply = await site.pay("p-1", **{"Content-Encoding": encoding})
    assert (reply.status_code, code_of(reply)) == (415, "encoding")
    assert reply.headers["connection"] == "close"
    assert (await site.pay("p-1", **{"Content-Encoding": "identity"})).status_code == 201


async def test_a_content_type_means_nothing(site):
    assert (await site.pay("p-1", **{"Content-Type": "text/plain"})).status_code == 201
