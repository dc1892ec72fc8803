"""A TCP proxy before a real server: it can be shut, refuse, cut what is connected, and lose requests or replies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self
from urllib.parse import urlsplit

__all__ = ["Proxy"]

HOST = "127.0.0.1"

Way = Literal["requests", "replies"]


class Proxy:
    """Passes bytes on between clients and a server, as long as nothing else is said.

    Args:
        url: the server's; `url` of the proxy leads through it.

    Attributes:
        refuse: whoever connects is cut off at once.
        swallow: what goes this way is lost, until `cut`.
        lose: what goes this way next is lost, once, and its connection with it.
        swallowed: something was lost.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.refuse = False
        self.swallow: Way | None = None
        self.lose: Way | None = None
        self.swallowed = asyncio.Event()

    @property
    def url(self) -> str:
        """The server's URL, with the proxy's address."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{user}{at}{HOST}:{self._port}").geturl()

    async def open(self) -> None:
        """Listen; after `shut` on the same port again."""
        self.refuse = False
        self._server = await asyncio.start_server(self._client, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Cut what is connected; what connects later is passed on again."""
        self.swallow = None
        for writer in self._writers:
            writer.transport.abort()

    async def shut(self) -> None:
        """Listen no more, and cut what is connected; when this returns, no connection is left."""
        self.refuse = True
        if self._server is not None:
            self._server.close()
            self._server = None
        # Whoever was accepted last becomes a task only some turns of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                await self._joined(reader, writer)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            return
        from_server, to_server = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        mine = {writer, to_server}
        self._writers |= mine
        try:
            if not self.refuse:
                await asyncio.gather(
                    self._pass("requests", reader, to_server), self._pass("replies", from_server, writer)
                )
        finally:
            self._writers -= mine
            to_server.transport.abort()

    async def _pass(self, way: Way, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if self.lose == way:
                    self.lose = None
                    self.swallowed.set()
                    raise ConnectionAbortedError
                if self.swallow == way:
                    self.swallowed.set()
                    continue
                target.write(data)
                await target.drain()
        finally:
            target.close()
