"""`Idempotency`: which requests it takes for itself, whose key it is, and what is refused before anything is looked up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumer.http import BadRequest, Unauthenticated
from tests.http.guardkit import PATIENCE, Bank, guarding


@pytest.fixture
async def bank() -> Bank:
    return Bank()


async def test_methods_that_are_idempotent_by_themselves_pass(bank):
    async with guarding(bank) as client:
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
            for _ in range(2):
                assert (await client.send("k1", method=method)).status == 201
        assert await client.entries() == []
    assert bank.runs == 10


async def test_a_route_is_required_optional_or_off(bank):
    routes = {"POST /need": "required", "POST /free/{any}": "off", "DELETE /need": "optional"}
    async with guarding(bank, routes=routes) as client:
        assert (await client.send(path="/need")).code == "key-missing"
        assert bank.runs == 0
        for path, method, replayed in (
            ("/need", "POST", True),
            ("/need", "DELETE", True),
            ("/free/7", "POST", False),
            ("/other", "POST", True),
            ("/other", "PATCH", True),
        ):
            await client.send("k1", path=path, method=method)
            assert (await client.send("k1", path=path, method=method)).replayed is replayed, (method, path)
        for _ in range(2):
            assert not (await client.send(path="/other")).replayed
        assert {entry.handler for entry in await client.entries()} == {
            "POST /need",
            "DELETE /need",
            "POST *",
            "PATCH *",
        }


async def test_a_key_is_of_one_route_and_its_parameters_are_payload(bank):
    routes = {"POST /accounts/{account}/payments": "required", "POST /refunds": "required"}
    async with guarding(bank, routes=routes) as client:
        await client.send("k1", path="/accounts/a/payments")
        assert (await client.send("k1", path="/accounts/b/payments")).code == "payload-mismatch"
        assert not (await client.send("k1", path="/refunds")).replayed


async def test_the_prefix_that_an_application_is_served_under_is_no_part_of_a_route(bank):
    async with guarding(bank, routes={"POST /payments": "required"}) as client:
        await client.send("k1", path="/v1/payments", root_path="/v1")
        assert (await client.send("k1", path="/payments")).replayed


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (b"", "key-malformed"),
        (b'""', "key-malformed"),
        (b'"open', "key-malformed"),
        (b"a b", "key-malformed"),
        (b"a,b", "key-malformed"),
        (b"\xe9", "key-malformed"),
        (b"x" * 256, "key-malformed"),
        ([b"a", b"a"], "key-malformed"),
    ],
)
async def test_what_is_no_key_is_refused_and_nothing_runs(key, code, bank):
    async with guarding(bank) as client:
        reply = await client.send(key)
        assert (reply.status, reply.code) == (400, code)
        assert await client.entries() == []
    assert bank.runs == 0


async def test_quoted_and_bare_are_one_key(bank):
    async with guarding(bank) as client:
        await client.send(b"k1")
        assert (await client.send(b'"k1"')).replayed
        assert (await client.send(b'"k1";v=1')).replayed
        assert (await client.send(b"x" * 255)).status == 201


async def test_tenants_share_no_keys(bank):
    async def tenant(request):
        name = request.headers.get("x-tenant")
        if name is None:
            raise Unauthenticated("send X-Tenant")
        if name == "bad":
            raise BadRequest("no such tenant", code="unknown-tenant")
        if name == "broken":
            raise ZeroDivisionError
        return name

    async with guarding(bank, tenant=tenant) as client:
        for name in ("a", "b"):
            assert not (await client.send("k1", headers={"X-Tenant": name})).replayed
        assert (await client.send("k1", headers={"X-Tenant": "a"})).replayed
        assert (await client.send("k1")).status == 401
        assert (await client.send("k1", headers={"X-Tenant": "bad"})).code == "unknown-tenant"
        assert (await client.send("k1", headers={"X-Tenant": "x" * 65})).code == "invalid-tenant"
        assert (await client.send("k1", headers={"X-Tenant": ""})).status == 401
        assert (await client.send("k1", headers={"X-Tenant": "broken"})).code == "failed"
    assert bank.runs == 2


async def test_a_tenant_may_be_what_an_outer_middleware_has_found(bank):
    async with guarding(bank, tenant=lambda request, scope: scope["user"]) as client:
        assert not (await client.send("k1", user="ada")).replayed
        assert not (await client.send("k1", user="bob")).replayed
        assert (await client.send("k1", user="ada")).replayed


async def test_a_tenant_sees_what_its_path_holds(bank):
    seen: list[str] = []

    def tenant(request):
        seen.append(request.path_params["account"])
        return seen[-1]

    async with guarding(bank, tenant=tenant, routes={"POST /{account}/pay": "required"}) as client:
        await client.send("k1", path="/ada/pay")
        [entry] = await client.entries()
    assert (seen, entry.tenant) == (["ada"], "ada")


async def test_a_body_that_is_too_large_is_refused_and_one_that_is_not_arrives_whole(bank):
    async with guarding(bank, largest_body=200_000) as client:
        assert (await client.send("k1", b"x" * 200_001)).code == "too-large"
        assert (await client.send("k1", b"x" * 200_000)).status == 201
        assert (await client.send("k2", headers={"Content-Length": "200001"})).code == "too-large"
    assert bank.bodies == [b"x" * 200_000]


async def test_a_compressed_body_is_the_applications_business(bank):
    async with guarding(bank) as client:
        headers = {"Content-Encoding": "gzip"}
        await client.send("k1", b"\x1f\x8b", headers=headers)
        assert (await client.send("k1", b"\x1f\x8b", headers=headers)).replayed


async def test_a_body_that_does_not_come_is_not_waited_for(bank):
    async with guarding(bank) as client:
        replies: list[Any] = []

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            replies.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/p",
            "query_string": b"",
            "consumer.body_time": 0.05,
        }
        async with asyncio.timeout(PATIENCE):
            await client.asgi({**scope, "headers": [(b"idempotency-key", b"k1")]}, receive, send)
    assert replies[0]["status"] == 408
    assert bank.runs == 0


async def test_a_client_that_leaves_before_its_body_is_whole_starts_nothing(bank):
    async with guarding(bank) as client:

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        headers = [(b"idempotency-key", b"k1")]
        scope = {"type": "http", "method": "POST", "path": "/p", "headers": headers, "query_string": b""}
        await client.asgi(scope, receive, send)
        assert await client.entries() == []
    assert bank.runs == 0
