"""Raw sockets: what a client says byte by byte, and what it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

__all__ = ["Reply", "Wire", "connected", "exchanged", "replies"]

PATIENCE = 20.0
"""Seconds after which an answer that has not come never will."""


class Reply(NamedTuple):
    """One response: names of header fields in lower case, all their values."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Wire(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, head: bool = False) -> Reply:
        """The next final response; `head`: to a HEAD request."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    reply = await _read(self.reader, head=head)
                    if reply.status != 100:
                        return reply
        except (TimeoutError, asyncio.IncompleteReadError) as fault:
            raise AssertionError(f"no answer: {type(fault).__name__}") from fault

    async def closed(self) -> bytes:
        """Wait for the end of the connection; what came until then."""
        rest = b""
        try:
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionError):
                    while chunk := await self.reader.read(65_536):
                        rest += chunk
        except TimeoutError as fault:
            raise AssertionError(f"still open; it has said {rest[:200]!r}") from fault
        return rest


@asynccontextmanager
async def connected(host: str, port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(host, port, limit=4 * 1024 * 1024)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def exchanged(host: str, port: int, data: bytes, *, eof: bool = False) -> bytes:
    """Send bytes on a connection of their own; all that comes back until it ends. `eof`: say that nothing follows."""
    async with connected(host, port) as wire:
        wire.send(data)
        if eof:
            wire.writer.write_eof()
        return await wire.closed()


def replies(data: bytes) -> list[int]:
    """The statuses of the responses that some bytes hold."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)]


async def _read(reader: asyncio.StreamReader, *, head: bool) -> Reply:
    first = await reader.readuntil(b"\r\n")
    version, _, rest = first.partition(b" ")
    assert version in {b"HTTP/1.1", b"HTTP/1.0"}, first
    headers: dict[bytes, bytes] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    status = int(rest[:3])
    body = b""
    if not head and status not in {100, 204}:
        body = await reader.readexactly(int(headers[b"content-length"]))
    return Reply(status, headers, body)
