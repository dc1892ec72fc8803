"""The OpenAPI document of the reference application, and Schemathesis held against the service that it describes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from consumer.http.openapi import document
from handlers.app import app
from tests.http.shopkit import migrated, serving

EXAMPLES = 100
PROBLEMS = {"400", "401", "408", "409", "413", "415", "422", "431", "500", "503"}


def described() -> dict[str, Any]:
    return document(app.name, app.handlers.endpoints)


def test_both_operations_are_described_with_header_replay_and_every_problem():
    found = described()
    assert found["openapi"] == "3.1.0"
    assert sorted(found["paths"]) == ["/orders", "/payments"]
    for path in found["paths"].values():
        assert list(path) == ["post"]
        operation = path["post"]
        parameters = [(each["name"], each["in"], each["required"]) for each in operation["parameters"]]
        assert parameters == [("Idempotency-Key", "header", True), ("X-Tenant", "header", False)]
        responses = operation["responses"]
        assert set(responses) == {"201"} | PROBLEMS
        assert set(responses["201"]["headers"]) == {"Idempotent-Replayed", "Idempotency-Key-Expires"}
        for status in PROBLEMS:
            assert list(responses[status]["content"]) == ["application/problem+json"]
        assert "Retry-After" in responses["409"]["headers"]
        assert "Retry-After" in responses["503"]["headers"]
    for code in ("key-missing", "key-malformed", "invalid-request", "invalid-tenant", "invalid-body"):
        assert f"`{code}`" in found["paths"]["/payments"]["post"]["responses"]["400"]["description"]


def test_every_reference_of_the_document_leads_somewhere():
    found = described()

    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    named = set(references(found))
    assert named
    for reference in named:
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas"
        assert name in found["components"]["schemas"]


async def test_the_service_serves_it(site):
    reply = await site.client.get("/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == described()


class Served:
    """The service on a loop of its own, for callers that are no coroutines."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._client: Future[httpx.AsyncClient] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()

    async def _serve(self) -> None:
        try:
            async with serving(app, await migrated(app, self._url)) as site:
                self._client.set_result(site.client)
                await self._stop.wait()
        except BaseException as fault:
            if not self._client.done():
                self._client.set_exception(fault)
            raise

    def request(self, request: httpx.Request) -> httpx.Response:
        client = self._client.result(20)
        return asyncio.run_coroutine_threadsafe(client.send(request), self._loop).result(20)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("shop")
    made = Served(f"sqlite:///{folder}/shop.db")
    yield made
    made.close()


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
@pytest.mark.parametrize("path", ["/payments", "/orders"])
def test_no_5xx_and_no_answer_that_is_not_described(served, path, mode):
    schema = schemathesis.openapi.from_dict(described())
    statuses: set[int] = set()

    @seed(2026)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schema[path]["POST"].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        made: Any = requests.Request(**case.as_transport_kwargs(base_url="http://shop.test")).prepare()
        content = made.body.encode() if isinstance(made.body, str) else made.body
        headers = [(_bytes(name), _bytes(value)) for name, value in made.headers.items()]
        response = served.request(httpx.Request(made.method, made.url, headers=headers, content=content))
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    check()
    # Otherwise nothing was tried: what fits the document is taken, what does not is refused.
    assert (201 if mode is schemathesis.GenerationMode.POSITIVE else 400) in statuses


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


LONG_QUOTED = '"' + '\\"' * 254 + ' ";p=1'
"""255 characters without its quotation marks and escapes, a space among them, and a parameter after it."""


async def test_what_the_document_says_of_key_and_head_is_what_the_service_does(site):
    [key, _] = described()["paths"]["/payments"]["post"]["parameters"]
    assert len(LONG_QUOTED) > 512
    assert "maxLength" not in key["schema"]
    body = {"account": "a-1", "amount": 5, "currency": "EUR"}
    taken = await site.client.post("/payments", json=body, headers={"Idempotency-Key": LONG_QUOTED})
    assert taken.status_code == 201, taken.text
    twice = [("Idempotency-Key", "k"), ("X-Tenant", "a"), ("X-Tenant", "b")]
    refused = await site.client.post("/payments", json=body, headers=twice)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid-request")
