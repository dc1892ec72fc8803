"""A server in this process, with limits that a test need not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from consumer.http.answer import Answer, App, Receive, Scope, Send
from consumer.http.body import Disconnected, read_body
from consumer.http.edge import Edge
from consumer.http.guard import Limits
from consumer.http.server import listening
from consumer.path.timer import Timer

__all__ = ["Echo", "post", "serving"]

HOST = "127.0.0.1"


class Echo:
    """Answers with the request's body; knows what it has been asked.

    `POST /slow` waits for `go` after the body was read; `/unread` answers without reading it.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.gone = 0
        self.timer = Timer()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append((scope["method"], scope["path"]))
        if scope["path"] == "/unread":
            await Answer(404, b"nothing").send(send)
            return
        try:
            body = await read_body(scope, receive, self.timer)
        except Disconnected:
            self.gone += 1
            return
        if scope["path"] == "/slow":
            self.begun.set()
            await self.go.wait()
        await (body if isinstance(body, Answer) else Answer(200, body)).send(send)


@asynccontextmanager
async def serving(
    app: App, limits: Limits | None = None, *, host: str = HOST, grace: float = 5.0
) -> AsyncIterator[int]:
    """Serve `app` behind the edge; the port."""
    async with listening(Edge(app), host, 0, grace=grace, limits=limits) as address:
        yield int(address.rpartition(":")[2])


def post(body: bytes, *fields: bytes, path: bytes = b"/", length: int | None = None) -> bytes:
    """A request with Content-Length (`length`: another one than is true)."""
    size = len(body) if length is None else length
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % size, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
