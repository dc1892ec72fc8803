"""An app's ASGI application in this process, opened, and a client that speaks HTTP to it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from consumer import App
from consumer.entry import Entry
from consumer.http.service import Service
from consumer.settings import Settings
from consumer.stores import open_store

__all__ = [
    "PATIENCE",
    "PAYMENT",
    "STANDARD_SECRET",
    "STRIPE_SECRET",
    "Site",
    "code_of",
    "migrated",
    "replayed",
    "serving",
    "until",
]

PATIENCE = 20.0
PAYMENT = {"account": "a-1", "amount": 500, "currency": "EUR"}
STRIPE_SECRET = "whsec_of-stripe-these-are-plain-text"
STANDARD_SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()


class Site:
    """A served app."""

    def __init__(self, service: Service, client: httpx.AsyncClient) -> None:
        self.service = service
        self.client = client

    @property
    def running(self) -> Any:
        return self.service.opened

    async def post(
        self,
        path: str,
        key: str | bytes | None,
        body: Any = PAYMENT,
        headers: Sequence[tuple[str, str | bytes]] = (),
    ) -> httpx.Response:
        """Send one request; a body that is no bytes is sent as JSON."""
        pairs = [(name.encode(), _bytes(value)) for name, value in headers]
        if key is not None:
            pairs.append((b"Idempotency-Key", _bytes(key)))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with asyncio.timeout(PATIENCE):
            return await self.client.post(path, content=content, headers=pairs)

    async def pay(self, key: str | bytes | None, body: Any = PAYMENT, **headers: str) -> httpx.Response:
        return await self.post("/payments", key, body, list(headers.items()))

    async def entries(self, handler: str | None = None) -> list[Entry]:
        found: list[Entry] = await self.running.runtime.store.operator.entries()
        return [entry for entry in found if handler in {None, entry.handler}]

    async def rows(self, table: str = "ledger") -> int:
        [[count]] = await self.running.fetch(f"select count(*) from {table}")
        return int(count)


async def migrated(app: App, url: str) -> str:
    """Make a store's tables, and the app's own."""
    store = open_store(url, app.name)
    await store.migrate(app.own_schema(store.capabilities.dialect))
    await store.close()
    return url


@asynccontextmanager
async def serving(app: App, url: str, *, consume: bool = False, **settings: Any) -> AsyncIterator[Site]:
    """Open `app` behind its own service, as a server does; with `consume` its handlers are fed too."""
    given: dict[str, Any] = {"store": url, "grace": 5.0} | settings
    service = app.asgi(Settings(**given), consume=consume)
    transport = httpx.ASGITransport(app=service)
    async with (
        service.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client,
    ):
        yield Site(service, client)


def code_of(reply: httpx.Response) -> str:
    """Return the code of a problem, and hold it to its form."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    found = reply.json()
    assert found["status"] == reply.status_code
    assert {"type", "title", "code", "retryable"} <= set(found)
    return str(found["code"])


def replayed(reply: httpx.Response) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until it is so."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition():  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE:g} s: {what}") from None


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
