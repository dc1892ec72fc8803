"""What is written in one turn of the loop leaves at once, in order, and before the connection is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from consumer.http.corked import MOST_HELD, Corked
from consumer.http.guard import Guarded, Limits


class Wire(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.done or "abort" in self.done

    def get_write_buffer_size(self) -> int:
        return 0


async def test_the_writes_of_one_turn_are_one() -> None:
    wire = Wire()
    corked = Corked(wire)
    for part in (b"head", b"", b"body"):
        corked.write(part)
    assert wire.done == []
    assert corked.get_write_buffer_size() == 8
    await asyncio.sleep(0)
    assert wire.done == [b"headbody"]
    assert corked.get_write_buffer_size() == 0
    corked.write(b"next")
    await asyncio.sleep(0)
    assert wire.done == [b"headbody", b"next"]


async def test_closing_sends_what_is_held_first() -> None:
    wire = Wire()
    corked = Corked(wire)
    corked.write(b"answer")
    corked.close()
    await asyncio.sleep(0)
    assert wire.done == [b"answer", "close"]


async def test_an_aborted_connection_sends_nothing_more() -> None:
    wire = Wire()
    corked = Corked(wire)
    corked.write(b"answer")
    corked.abort()
    corked.write(b"late")
    await asyncio.sleep(0)
    assert wire.done == ["abort"]


async def test_no_more_than_a_bound_is_held() -> None:
    wire = Wire()
    corked = Corked(wire)
    half = bytes(MOST_HELD // 2)
    corked.write(half)
    assert wire.done == []
    corked.write(half)
    assert wire.done == [half + half]


class Inner(asyncio.Protocol):
    """A server that has answered all it was asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


async def test_what_is_held_when_the_client_has_said_all_is_sent() -> None:
    """The loop closes the connection when `eof_received` returns: a flush that comes later would come too late."""
    wire, inner = Wire(), Inner()
    guard = Guarded(Limits()).guard(inner, lambda: True, lambda: False)
    guard.connection_made(wire)
    inner.transport.write(b"answer")
    assert guard.eof_received() is False
    assert wire.done == [b"answer"]
    guard.connection_lost(None)
