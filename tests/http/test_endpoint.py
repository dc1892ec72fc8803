"""`POST /payments`, `POST /orders` and `GET /payments/{id}` of the reference application, row by row of its contract."""

from __future__ import annotations

import asyncio
import json
from email.utils import parsedate_to_datetime

import pytest

from tests.http.shopkit import PAYMENT, code_of, replayed

ORDER = PAYMENT | {"lines": [{"sku": "s-1", "qty": 2}, {"sku": "s-2", "qty": 1}]}


async def test_a_payment_is_taken_once_and_replayed_byte_for_byte(site):
    first = await site.pay("p-1")
    assert first.status_code == 201
    assert first.json() == {"payment_id": "p-1", "status": "settled", **PAYMENT}
    assert first.headers["content-type"] == "application/json"
    assert not replayed(first)
    for _ in range(2):
        again = await site.pay("p-1")
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == "application/json"
    assert await site.rows() == 1
    assert len(await site.entries("payments.settled")) == 1


async def test_when_a_key_expires_is_said_at_first_and_with_every_replay(site):
    first, again = await site.pay("p-1"), await site.pay("p-1")
    expires = first.headers["idempotency-key-expires"]
    assert again.headers["idempotency-key-expires"] == expires
    assert expires.endswith(" GMT")
    [entry] = await site.entries("payments.requested")
    assert parsedate_to_datetime(expires).timestamp() == int(entry.created_at + 14 * 86_400)


@pytest.mark.parametrize(
    "other",
    [PAYMENT | {"account": "a-2"}, PAYMENT | {"amount": 501}, PAYMENT | {"currency": "USD"}],
    ids=["account", "amount", "currency"],
)
async def test_another_payload_under_the_same_key_is_a_mismatch(site, other):
    first = await site.pay("p-1")
    reply = await site.pay("p-1", other)
    assert (reply.status_code, code_of(reply)) == (422, "payload-mismatch")
    assert reply.json()["retryable"] is False
    assert not replayed(reply)
    assert (await site.pay("p-1")).content == first.content
    assert await site.rows() == 1


async def test_the_same_payload_written_differently_is_a_replay(site):
    first = await site.pay("p-1")
    spellings = [
        b'{"currency":"EUR","amount":500,"account":"a-1"}',
        b'{ "account" : "a-1",\n"amount":500,"currency":"eur" }',
        b'{"account":"\\u0061-1","amount":500,"currency":"EUR"}',
    ]
    for body in spellings:
        again = await site.pay("p-1", body)
        assert (again.status_code, again.content, replayed(again)) == (201, first.content, True)


async def test_an_undecodable_body_is_400_whatever_the_state_of_the_key(site):
    assert code_of(await site.pay("p-1", b"{")) == "invalid-body"
    assert (await site.pay("p-1")).status_code == 201
    done = await site.pay("p-1", b"{")
    assert (done.status_code, code_of(done)) == (400, "invalid-body")
    await site.pay("p-2", PAYMENT | {"account": "blocked"})
    dead = await site.pay("p-2", b"{")
    assert (dead.status_code, code_of(dead)) == (400, "invalid-body")


async def test_a_refusal_is_stored_and_replayed(site):
    blocked = PAYMENT | {"account": "blocked"}
    first, again = await site.pay("p-1", blocked), await site.pay("p-1", blocked)
    assert (first.status_code, code_of(first), replayed(first)) == (422, "rejected", False)
    assert (again.status_code, again.content, replayed(again)) == (422, first.content, True)
    assert first.json()["detail"] == "account blocked"
    assert first.headers["idempotency-key-expires"] == again.headers["idempotency-key-expires"]
    assert await site.rows() == 0
    [entry] = await site.entries()
    assert (entry.state.word, entry.attempts) == ("dead", 1)
    other = await site.pay("p-1")
    assert (other.status_code, code_of(other)) == (422, "payload-mismatch")


async def test_ids_of_orders_are_refused_and_burn_no_key(site):
    for key in ("order-1", '"order-"'):
        reply = await site.pay(key)
        assert (reply.status_code, code_of(reply)) == (422, "rejected")
    assert await site.entries() == []
    assert (await site.pay("Order-1")).status_code == 201


async def test_an_order_and_a_payment_of_one_key_are_two_operations(site):
    assert (await site.pay("k-1")).status_code == 201
    first = await site.post("/orders", "k-1", ORDER)
    assert (first.status_code, replayed(first)) == (201, False)
    assert first.json() == {"order_id": "k-1", "status": "placed", "payment_id": "order-k-1"}
    again = await site.post("/orders", "k-1", ORDER)
    assert (again.status_code, again.content, replayed(again)) == (201, first.content, True)
    other = await site.post("/orders", "k-1", ORDER | {"lines": [{"sku": "s-1", "qty": 3}]})
    assert (other.status_code, code_of(other)) == (422, "payload-mismatch")
    assert (await site.rows("orders"), await site.rows()) == (1, 1)


async def test_an_orders_key_leaves_room_for_its_payments(site):
    longest = "o" * (255 - len("order-"))
    assert (await site.post("/orders", longest, ORDER)).status_code == 201
    reply = await site.post("/orders", longest + "o", ORDER)
    assert (reply.status_code, code_of(reply)) == (400, "key-malformed")


async def test_two_tenants_are_two_payments(site):
    mine = await site.pay("p-1", **{"X-Tenant": "t1"})
    theirs = await site.pay("p-1", PAYMENT | {"amount": 7}, **{"X-Tenant": "t2"})
    public = await site.pay("p-1", PAYMENT | {"amount": 9})
    assert [r.status_code for r in (mine, theirs, public)] == [201, 201, 201]
    assert not any(map(replayed, (mine, theirs, public)))
    assert await site.rows() == 3
    for tenant, amount in (("t1", 500), ("t2", 7), ("public", 9), ("", 9)):
        shown = await site.client.get("/payments/p-1", headers={"X-Tenant": tenant})
        assert (shown.status_code, shown.json()["amount"]) == (200, amount)
    nobody = await site.client.get("/payments/p-1", headers={"X-Tenant": "t3"})
    assert (nobody.status_code, code_of(nobody)) == (404, "not-found")


async def test_an_empty_tenant_is_public(site):
    first = await site.pay("p-1", **{"X-Tenant": ""})
    again = await site.pay("p-1", **{"X-Tenant": "public"})
    assert (first.status_code, replayed(again)) == (201, True)
    assert (await site.entries("payments.requested"))[0].tenant == "public"


@pytest.mark.parametrize(
    "values",
    [[b"a", b"b"], [b"a", b"a"], [b"x" * 65], [b"t\xc3\xa9"], [b"a\tb"], [b"\x7f"]],
    ids=["two", "twice", "long", "non-ascii", "tab", "delete"],
)
async def test_a_tenant_that_cannot_be_one_is_400(site, values):
    headers = [("X-Tenant", value) for value in values]
    reply = await site.post("/payments", "p-1", PAYMENT, headers)
    assert (reply.status_code, reply.json()["code"]) in {(400, "invalid-tenant"), (400, "invalid-request")}
    shown = await site.client.get("/payments/p-1", headers=[(b"X-Tenant", value) for value in values])
    assert shown.status_code == 400
    assert code_of(shown) == reply.json()["code"]
    assert await site.entries() == []


async def test_the_longest_tenant(site):
    assert (await site.pay("p-1", **{"X-Tenant": "~" * 64})).status_code == 201


async def test_query_parameters_mean_nothing(site):
    first = await site.pay("p-1")
    again = await site.post("/payments?amount=7&amount=8&x", "p-1")
    assert (again.status_code, again.content, replayed(again)) == (201, first.content, True)


async def test_a_payment_is_shown_with_its_source(site):
    await site.pay('"p/1 x"')
    shown = await site.client.get("/payments/p%2F1%20x")
    assert (shown.status_code, shown.json()["source"], shown.json()["payment_id"]) == (200, "http", "p/1 x")
    for path in ("/payments/p-none", "/payments/%00", "/payments/p%00", "/payments/%ff", "/payments/"):
        none = await site.client.get(path)
        assert (none.status_code, code_of(none)) == (404, "not-found"), path


async def test_what_is_not_there_is_a_problem(site):
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not-found"),
        ("POST", "/payments/", 405, "method-not-allowed"),
        ("GET", "/payments", 405, "method-not-allowed"),
        ("DELETE", "/payments", 405, "method-not-allowed"),
        ("PUT", "/orders", 405, "method-not-allowed"),
        ("POST", "/readyz", 405, "method-not-allowed"),
    ):
        reply = await site.client.request(method, path, content=b"{}")
        assert (reply.status_code, code_of(reply)) == (status, code), (method, path)
        if status == 405:
            assert reply.headers["allow"], (method, path)


async def test_what_another_way_in_has_landed_and_nobody_has_started_is_taken_by_the_request(site):
    await site.running.publish("payments.requested", {"payment_id": "p-1", **PAYMENT})
    [landed] = await site.entries()
    assert landed.state.word == "received"
    first, again = await site.pay("p-1"), await site.pay("p-1")
    assert (first.status_code, replayed(first)) == (201, False)
    assert (again.content, replayed(again)) == (first.content, True)
    assert (await site.client.get("/payments/p-1")).json()["source"] == "http"
    assert await site.rows() == 1


async def test_of_sixty_four_at_once_one_runs_and_all_are_told_the_same(site):
    replies = await asyncio.gather(*(site.pay("p-1") for _ in range(64)))
    told = [r for r in replies if r.status_code == 201]
    [content] = {r.content for r in told}
    assert json.loads(content) == {"payment_id": "p-1", "status": "settled", **PAYMENT}
    assert sum(not replayed(r) for r in told) == 1
    assert all(code_of(r) == "in-progress" for r in replies if r.status_code != 201)
    assert await site.rows() == 1
