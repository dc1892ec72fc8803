"""An application behind `Idempotency`, and a client that speaks ASGI to it: requests that a test can hold and let go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from consumer import App
from consumer.entry import Entry
from consumer.http import Idempotency, single_tenant
from consumer.operate.resolve import resolve
from consumer.settings import Settings
from consumer.stores import open_store

__all__ = ["PATIENCE", "Asgi", "Bank", "Client", "Reply", "guarding", "prepared"]

PATIENCE = 20.0
Asgi = Callable[[Any, Any, Any], Any]


class Bank:
    """A bare ASGI application that knows no framework and no lifespan. It answers as its path says."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()
        self.status = 201
        self.answer = b'{"payment":%d}'
        self.headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"location", b"/payments/1"),
        ]

    @property
    def runs(self) -> int:
        return len(self.bodies)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.bodies.append((await receive())["body"])
        kind = scope["path"].rpartition("/")[2]
        match kind:
            case "wait":
                await self._wait(receive, send)
            case "background":
                await self._respond(send)
                await self._held()
            case "raise":
                raise ValueError("broken")
            case "raise-late":
                await self._respond(send)
                raise ValueError("broken after its response")
            case "half":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"ha", "more_body": True})
            case "silent":
                return
            case "stream":
                await self._stream(receive, send)
            case _:
                await self._respond(send)

    async def _wait(self, receive: Any, send: Any) -> None:
        """Work until the test lets it end, or its client has gone."""
        gone = asyncio.create_task(receive())
        work = asyncio.create_task(self._held())
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.cancelled.set()
                return
            await self._respond(send)
        finally:
            gone.cancel()
            work.cancel()

    async def _held(self) -> None:
        self.entered.set()
        try:
            await self.leave.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.finished.set()

    async def _respond(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        body = self.answer % self.runs if b"%d" in self.answer else self.answer
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, receive: Any, send: Any) -> None:
        """Send until the client has gone, or the test lets it end."""
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        gone = asyncio.create_task(receive())
        left = asyncio.create_task(self.leave.wait())
        number = 0
        while not gone.done() and not left.done():
            await send({"type": "http.response.body", "body": b"%06d\n" % number, "more_body": True})
            number += 1
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"end" if left.done() else b""})
        if gone.done() and gone.result()["type"] == "http.disconnect":
            self.cancelled.set()
        gone.cancel()
        left.cancel()
        self.finished.set()


class Reply:
    """A response, as it comes."""

    def __init__(self) -> None:
        self.status = 0
        self.pairs: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.began = asyncio.Event()
        self.whole = asyncio.Event()

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.decode(): value.decode() for name, value in self.pairs}

    @property
    def code(self) -> str:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        found = json.loads(self.body)
        assert found["status"] == self.status
        return found["code"]

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"


class Client:
    """Speaks ASGI, without a server in between."""

    def __init__(self, asgi: Idempotency) -> None:
        self.asgi = asgi

    @property
    def opened(self) -> Any:
        return self.asgi._service.opened

    async def entries(self) -> list[Entry]:
        return await self.opened.runtime.store.operator.entries()

    async def resolve(self, word: str, result: bytes | None = None) -> None:
        """End the only entry's doubt."""
        [entry] = await self.entries()
        fault = await resolve(self.opened.runtime.store.operator, entry, word, "looked it up", result)
        assert fault is None

    async def send(self, *args: Any, **given: Any) -> Reply:
        """Send a request, and return its whole response."""
        reply = Reply()
        async with asyncio.timeout(PATIENCE):
            await self.into(reply, *args, **given)
        return reply

    async def into(
        self,
        reply: Reply,
        key: str | bytes | list[bytes] | None = None,
        body: bytes = b"{}",
        *,
        method: str = "POST",
        path: str = "/payments",
        query: bytes = b"",
        headers: Mapping[str, str] | None = None,
        gone: asyncio.Event | None = None,
        **scope: Any,
    ) -> None:
        """Send a request; its response arrives in `reply`. When `gone` is set, the client has gone."""
        keys = key if isinstance(key, list) else [] if key is None else [_bytes(key)]
        pairs = [(b"idempotency-key", each) for each in keys]
        pairs += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        parts = [body[i : i + 65_536] for i in range(0, len(body), 65_536)] or [b""]
        gone = gone or asyncio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if gone.is_set():
                raise OSError("the client has gone")
            if message["type"] == "http.response.start":
                assert not reply.began.is_set(), "two responses to one request"
                reply.status, reply.pairs = message["status"], list(message["headers"])
                reply.began.set()
            else:
                assert not reply.whole.is_set(), "more body after its end"
                reply.body += message.get("body", b"")
                if not message.get("more_body", False):
                    reply.whole.set()

        given = {"type": "http", "method": method, "path": path, "query_string": query, "headers": pairs}
        await self.asgi({**given, "root_path": "", **scope}, receive, send)


@asynccontextmanager
async def guarding(
    asgi: Asgi, url: str = "memory:", *, name: str = "shop", settings: Any = None, **given: Any
) -> AsyncIterator[Client]:
    """Guard an application, opened."""
    given = {"tenant": single_tenant} | given
    app = given.pop("app", None) or App(name)
    opening = {"store": url, "grace": 5.0} | (settings or {})
    guard = Idempotency(asgi, app=app, settings=Settings(**opening), **given)
    async with guard.lifespan():
        yield Client(guard)


async def prepared(url: str) -> str:
    """Make a store's tables."""
    store = open_store(url, "shop")
    await store.open(check=False)
    await store.migrate()
    await store.close()
    return url


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
