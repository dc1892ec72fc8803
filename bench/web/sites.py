"""The servers that are measured, each an ASGI application; `python -m bench.web.site NAME STORE` serves one."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import msgspec

from consumer import App, Key, Secret, Settings, Transactional, Tx
from consumer.http import Request, single_tenant
from consumer.webhooks import StandardWebhooks

__all__ = ["BROKER", "HOOK_SECRET", "SCHEMA", "SITES", "TOPIC", "ours_app"]

HOOK_SECRET = "whsec_YSBzZWNyZXQgb2YgdHdlbnR5LWZvdXIgYg=="
SCHEMA = "create table if not exists ledger (payment_id text not null, account text not null, amount bigint not null, currency text not null)"
ROW = "insert into ledger (payment_id, account, amount, currency) values ($1, $2, $3, $4)"
BROKER, TOPIC = "BENCH_BROKER", "BENCH_TOPIC"
"""Variables of the environment: where webhooks are forwarded to."""
CONNECTIONS = 10
"""Of the pool of those written by hand, which is asyncpg's own default."""


class Body(msgspec.Struct):
    """What is posted."""

    account: str
    amount: int
    currency: str


class Payment(msgspec.Struct):
    """The handler's payload."""

    payment_id: str
    account: str
    amount: int
    currency: str


_decode = msgspec.json.Decoder(Body).decode
Opened = AbstractAsyncContextManager[Any]


@asynccontextmanager
async def noop(store: str) -> AsyncIterator[Any]:  # noqa: ARG001 - as its neighbours
    """Answer without a look at anything: no server of this kind can be faster."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - see ASGI
        while (await receive()).get("more_body", False):
            pass
        await _answer(send, b"{}")

    yield app


@asynccontextmanager
async def naive(store: str) -> AsyncIterator[Any]:
    """Take a payment as most do: a row and a commit per request, and nothing that stops the second one."""
    async with asyncpg.create_pool(store, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = _decode(await _read(receive))
            key = dict(scope["headers"])[b"idempotency-key"].decode()
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(ROW, key, body.account, body.amount, body.currency)
            await _answer(send, json.dumps({"payment_id": key}).encode())

        yield app


def ours_app() -> App:
    """The same payment as a handler, by an endpoint and by a webhook."""
    app = App("bench")
    app.schema(postgres=[SCHEMA])
    topic = os.environ.get(TOPIC, "payments")

    @app.on(topic, key=Key.field("payment_id"), mode=Transactional(), same=("account", "amount", "currency"))
    async def take(payment: Payment, tx: Tx) -> dict[str, str]:
        await tx.execute(ROW, payment.payment_id, payment.account, payment.amount, payment.currency)
        return {"payment_id": payment.payment_id}

    def from_http(body: Body, request: Request) -> Payment:
        return Payment(request.key, body.account, body.amount, body.currency)

    def from_hook(payment: Payment) -> Payment:
        return payment

    app.endpoint("POST", "/payments", take, translate=from_http, tenant=single_tenant)
    app.webhook(
        "/hook", StandardWebhooks(secret=Secret.env("BENCH_SECRET")), topic=topic, translate=from_hook
    )
    return app


@asynccontextmanager
async def ours(store: str) -> AsyncIterator[Any]:
    """Serve it as `consumer ingest` does."""
    service = ours_app().asgi(Settings(store=store))
    async with service.lifespan():
        yield service


@asynccontextmanager
async def forward(store: str) -> AsyncIterator[Any]:
    """Serve it with webhooks on their topic: acknowledged when every replica in sync has them."""
    service = ours_app().asgi(Settings(store=store, broker=os.environ[BROKER], webhooks_to="broker"))
    async with service.lifespan():
        yield service


async def _read(receive: Any) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


SITES: dict[str, Callable[[str], Opened]] = {"noop": noop, "naive": naive, "ours": ours, "forward": forward}
