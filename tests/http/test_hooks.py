"""`/hooks/stripe` and `/hooks/standard` of the reference application, row by row of its contract."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from handlers.app import app
from tests.http.shopkit import PAYMENT, STANDARD_SECRET, STRIPE_SECRET, Site, replayed, serving, until
from tests.http.signing import Pairs, as_bytes, intent, requested, standard, stripe_signed, svix_signed

STRIPE, STANDARD = "/hooks/stripe", "/hooks/standard"
WAYS = {
    "stripe": (STRIPE, as_bytes(intent()), stripe_signed),
    "standard": (STANDARD, as_bytes(requested()), standard),
    "svix": (STANDARD, as_bytes(requested()), svix_signed),
}
OTHER_SECRET = "whsec_" + "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXI="


async def hook(site: Site, path: str, body: bytes, headers: Pairs) -> httpx.Response:
    return await site.post(path, None, body, headers)


async def states(site: Site) -> list[str]:
    return [entry.state.word for entry in await site.entries("payments.requested")]


@pytest.mark.parametrize("name", WAYS)
async def test_what_the_official_kit_signs_is_landed_before_it_is_acknowledged(site, name):
    path, body, sign = WAYS[name]
    reply = await hook(site, path, body, sign(body))
    assert (reply.status_code, reply.content) == (200, b"")
    [entry] = await site.entries()
    assert (entry.key, entry.tenant, entry.state.word, entry.attempts) == (b"p-1", "public", "received", 0)
    for _ in range(2):
        assert (await hook(site, path, body, sign(body))).status_code == 200
    assert len(await site.entries()) == 1


@pytest.mark.parametrize(
    ("name", "source"), [("stripe", "stripe"), ("standard", "standard"), ("svix", "standard")]
)
async def test_it_becomes_a_row_with_its_source_and_http_replays_it(shop_url, name, source):
    path, body, sign = WAYS[name]
    async with serving(app, shop_url, consume=True) as site:
        assert (await hook(site, path, body, sign(body))).status_code == 200

        async def taken() -> bool:
            return await states(site) == ["done"]

        await until(taken, "a worker has taken the payment")
        shown = (await site.client.get("/payments/p-1")).json()
        assert shown == {"payment_id": "p-1", "status": "settled", "source": source} | PAYMENT
        reply = await site.pay("p-1")
        assert (reply.status_code, replayed(reply)) == (201, True)
        assert reply.json() == {"payment_id": "p-1", "status": "settled"} | PAYMENT
        other = await site.pay("p-1", PAYMENT | {"amount": 1})
        assert other.status_code == 422
        assert await site.rows() == 1


async def test_stripes_event_names_the_payment_where_its_metadata_do_not(site):
    for event, metadata, key, account in (
        ("evt_1", {}, b"evt_1", "stripe"),
        ("evt_2", None, b"evt_2", "stripe"),
        ("evt_3", {"payment_id": "", "account": ""}, b"evt_3", "stripe"),
        ("evt_4", {"payment_id": "p-4", "account": "a-4"}, b"p-4", "a-4"),
    ):
        body = as_bytes(intent(None, event, metadata=metadata))
        assert (await hook(site, STRIPE, body, stripe_signed(body))).status_code == 200
        reply = await site.pay(key, PAYMENT | {"account": account})
        assert reply.status_code == 201, event
        assert reply.json()["currency"] == "EUR"


UNKNOWN = [
    (STRIPE, as_bytes(intent() | {"type": "charge.refunded"})),
    (STRIPE, as_bytes({"id": "evt_1", "type": "x", "data": {"object": {"amount": -1}}})),
    (STANDARD, as_bytes(requested() | {"type": "payments.refunded"})),
    (STANDARD, as_bytes({"type": "x", "data": None})),
    (STRIPE, as_bytes({"id": "evt_thin", "type": "v2.core.event_destination.ping"})),
    (STANDARD, as_bytes({"type": "x"})),
]


async def test_unknown_types_are_acknowledged_and_counted(site):
    for path, body in UNKNOWN:
        sign = stripe_signed if path == STRIPE else standard
        assert (await hook(site, path, body, sign(body))).status_code == 200
    assert await site.entries() == []
    results = site.running.desk.results
    assert (results["stripe", "ignored"], results["standard", "ignored"]) == (3, 3)


UNREADABLE = {
    "half": (STRIPE, b"{"),
    "nothing": (STRIPE, b""),
    "no UTF-8": (STRIPE, b"\xff\xfe"),
    "no object": (STRIPE, as_bytes({"id": "evt_1", "type": "payment_intent.succeeded", "data": {}})),
    "a boolean": (STRIPE, as_bytes(intent(amount=True))),
    "a float": (STRIPE, as_bytes(intent(amount=1.5))),
    "an over-long key": (STRIPE, as_bytes(intent("x" * 256))),
    "an array": (STANDARD, b"[]"),
    "a text": (STANDARD, as_bytes(requested(amount="5"))),
    "an unknown field": (STANDARD, as_bytes(requested(extra=1))),
    "an empty key": (STANDARD, as_bytes(requested(payment_id=""))),
}


async def test_what_nobody_can_read_is_a_dead_letter_with_its_bytes(site):
    for name, (path, body) in UNREADABLE.items():
        known = {entry.identity for entry in await site.entries()}
        for _ in range(2):
            sign = stripe_signed if path == STRIPE else standard
            assert (await hook(site, path, body, sign(body))).status_code == 200, name
        [entry] = [entry for entry in await site.entries() if entry.identity not in known]
        assert (entry.state.word, entry.handler, entry.tenant) == ("dead", "payments.requested", "public"), (
            name
        )
        assert entry.reason, name
        assert entry.message is not None, name
        # What could be translated is kept as the payload that could not be keyed.
        assert body in entry.message or ("key" in name and b'"payment_id"' in entry.message), name
    results = site.running.desk.results
    assert results["stripe", "landed"] + results["standard", "landed"] == len(UNREADABLE)
    assert results["stripe", "duplicate"] + results["standard", "duplicate"] == len(UNREADABLE)


async def test_an_id_that_was_seen_with_another_payload_is_a_dead_letter_of_its_own(site):
    first, other = as_bytes(requested()), as_bytes(requested(amount=7))
    assert (await hook(site, STANDARD, first, standard(first))).status_code == 200
    for event in ("msg_1", "msg_1"):
        assert (await hook(site, STANDARD, other, standard(other, event=event))).status_code == 200
    found = {entry.state.word: entry for entry in await site.entries()}
    assert sorted(found) == ["dead", "received"]
    assert found["dead"].reason.startswith("conflict")
    assert b'"amount":7' in found["dead"].message
    assert found["received"].key == b"p-1"
    assert (await site.pay("p-1")).status_code == 201


async def test_ids_of_orders_are_refused(site):
    for path, body, sign in (
        (STRIPE, as_bytes(intent("order-1")), stripe_signed),
        (STANDARD, as_bytes(requested("order-1")), standard),
    ):
        reply = await hook(site, path, body, sign(body))
        assert (reply.status_code, reply.json()["code"]) == (422, "rejected")
    assert await site.entries() == []


async def test_a_tenant_is_taken_from_the_header(site):
    body = as_bytes(requested())
    for tenant in ("t1", "t2", "", "public"):
        assert (await hook(site, STANDARD, body, [*standard(body), ("tenant", tenant)])).status_code == 200
    assert sorted(entry.tenant for entry in await site.entries()) == ["public", "t1", "t2"]
    for pairs in ([("tenant", "x" * 65)], [("tenant", "a"), ("tenant", "b")]):
        assert (await hook(site, STANDARD, body, [*standard(body), *pairs])).status_code == 400
    assert len(await site.entries()) == 3


async def test_fifty_at_once_are_one_entry(site):
    body = as_bytes(requested())
    replies = await asyncio.gather(
        *(hook(site, STANDARD, body, standard(body, event=f"msg_{i}")) for i in range(50))
    )
    assert {reply.status_code for reply in replies} == {200}
    assert len(await site.entries()) == 1


async def test_past_and_future_are_401_and_nothing_is_stored(site):
    for path, body, sign in WAYS.values():
        for off in (-301, 310, -(10**6), 10**9):  # the future comes nearer meanwhile
            reply = await hook(site, path, body, sign(body, at=time.time() + off))
            assert (reply.status_code, reply.content) == (401, b""), (path, off)
    assert await site.entries() == []
    for path, body, sign in WAYS.values():
        for off in (-290, 290):
            assert (await hook(site, path, body, sign(body, at=time.time() + off))).status_code == 200


@pytest.mark.parametrize("name", WAYS)
async def test_a_wrong_signature_is_401_and_one_that_is_none_400_or_401(site, name):
    path, body, sign = WAYS[name]
    right = sign(body)
    secret = "another secret" if name == "stripe" else OTHER_SECRET
    for headers in (sign(body, secret=secret), sign(body + b" "), []):
        assert (await hook(site, path, body, headers)).status_code == 401
    for at in range(len(right)):  # each of its headers missing, and twice
        missing = right[:at] + right[at + 1 :]
        assert (await hook(site, path, body, missing)).status_code == 401
        assert (await hook(site, path, body, [*right, right[at]])).status_code in {400, 401}
    last = right[-1][0]
    for junk in ("", ",", "v1,", "v1", "t=,v1=", "t=1e3,v1=00", "=" * 9_000, "v1,AAAA " * 1_000, "\u00e4"):
        pairs: Pairs = [*right[:-1], (last, junk)]
        assert (await hook(site, path, body, pairs)).status_code in {400, 401}, junk[:9]
    assert await site.entries() == []


async def test_a_time_that_is_none_is_refused(site):
    body = as_bytes(requested())
    event, _, signature = standard(body)
    for stamp in ("1e9", " 1", "+1", "-1", "", "0x5", "9" * 30, "NaN", "1.5", "\u0661"):
        reply = await hook(site, STANDARD, body, [event, ("webhook-timestamp", stamp), signature])
        assert reply.status_code in {400, 401}, stamp
        reply = await hook(site, STRIPE, body, [("Stripe-Signature", f"t={stamp},v1={'0' * 64}")])
        assert reply.status_code in {400, 401}, stamp
    assert await site.entries() == []


async def test_webhook_headers_win_over_stray_ones_of_svix(site):
    body = as_bytes(requested())
    stray = [("svix-id", "msg_x"), ("svix-timestamp", "1"), ("svix-signature", "v1,AAAA")]
    assert (await hook(site, STANDARD, body, [*stray, *standard(body)])).status_code == 200
    wrong = [(name, value if "signature" not in name else "v1,AAAA") for name, value in standard(body)]
    assert (await hook(site, STANDARD, body, [*wrong, *svix_signed(body)])).status_code in {400, 401}
    assert len(await site.entries()) == 1


async def test_several_secrets_count_while_one_is_rotated_out(site, monkeypatch, shop_url):
    monkeypatch.setenv("STANDARD_WEBHOOK_SECRET", f"{OTHER_SECRET} {STANDARD_SECRET}")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", f"{STRIPE_SECRET}-old {STRIPE_SECRET}")
    body = as_bytes(requested())
    event = as_bytes(intent())
    async with serving(app, shop_url) as rotated:
        for secret in (OTHER_SECRET, STANDARD_SECRET):
            assert (await hook(rotated, STANDARD, body, standard(body, secret=secret))).status_code == 200
        for text in (STRIPE_SECRET, STRIPE_SECRET + "-old"):
            assert (await hook(rotated, STRIPE, event, stripe_signed(event, secret=text))).status_code == 200
        assert (
            await hook(rotated, STRIPE, event, stripe_signed(event, secret="third one"))
        ).status_code == 401


async def test_other_methods_land_nothing(site):
    body = as_bytes(requested())
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        reply = await site.client.request(method, STANDARD, content=body, headers=standard(body))
        assert 400 <= reply.status_code < 500, method
    assert await site.entries() == []


async def test_compressed_and_over_long_bodies_are_refused_before_they_are_verified(site):
    body = as_bytes(requested())
    zipped = await hook(site, STANDARD, body, [*standard(body), ("Content-Encoding", "gzip")])
    assert zipped.status_code == 415
    long = json.dumps(requested(account="a" * 1024 * 1024)).encode()
    assert (await hook(site, STANDARD, long, standard(long))).status_code == 413
    assert await site.entries() == []
