"""What a request may cost, seen from a raw socket: the limits of `guard`, `edge` and `body`."""

from __future__ import annotations

import asyncio
import json

import pytest

from consumer.http.edge import LONGEST_HEAD, MOST_FIELDS
from consumer.http.guard import Limits
from consumer.rules.decode import LONGEST_BODY
from tests.http.raw import Wire, connected
from tests.http.serverkit import HOST, Echo, post, serving

pytestmark = pytest.mark.timeout(60)

CHUNKED = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = 0.4
"""Seconds of the limits of time here."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def refused(wire: Wire, status: int, code: str) -> None:
    """The next response is a problem, and the connection ends with it."""
    reply = await wire.reply()
    assert (reply.status, json.loads(reply.body)["code"]) == (status, code)
    assert reply.headers[b"content-type"] == b"application/problem+json"
    assert reply.headers.get(b"connection") == b"close"
    assert await wire.closed() == b""


async def test_the_largest_body_passes_and_the_connection_is_used_again() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(bytes(LONGEST_BODY)))
        assert (await wire.reply()).body == bytes(LONGEST_BODY)
        wire.send(CHUNKED % b"/" + chunk(bytes(LONGEST_BODY)) + b"0\r\n\r\n")
        assert (await wire.reply()).body == bytes(LONGEST_BODY)


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    """Mutant: no body bound."""
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"", length=LONGEST_BODY + 1))
        await refused(wire, 413, "too-large")


async def test_a_body_that_grows_too_large_is_refused_while_it_arrives() -> None:
    """The client gets its answer although it goes on sending, as most do. Mutant: no body bound."""
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(CHUNKED % b"/")
        for _ in range(20):
            wire.send(chunk(bytes(65_536)))
        await refused(wire, 413, "too-large")


async def test_what_waits_for_100_continue_is_refused_before_it_sends() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"", b"Expect: 100-continue", length=LONGEST_BODY + 1))
        await refused(wire, 413, "too-large")


async def test_100_continue_is_said_to_a_body_that_is_wanted() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"", b"Expect: 100-continue", length=3))
        assert (
            await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        wire.send(b"abc")
        assert (await wire.reply()).body == b"abc"


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, deflate", b"x"])
async def test_compressed_bodies_are_refused(encoding: bytes) -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc", b"Content-Encoding: " + encoding))
        await refused(wire, 415, "encoding")


async def test_identity_is_no_compression() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc", b"Content-Encoding: Identity"))
        assert (await wire.reply()).body == b"abc"


@pytest.mark.parametrize(
    "fields",
    [
        [b"X: y"] * (MOST_FIELDS + 1),
        [b"X: " + b"y" * LONGEST_HEAD],
        [b"X: " + b"y" * 1_000] * 66,
    ],
    ids=["fields", "one", "bytes"],
)
@pytest.mark.parametrize("torn", [False, True], ids=["at once", "torn"])
async def test_header_blocks_that_are_too_large(fields: list[bytes], torn: bool) -> None:
    """Whether the head comes in one read (then the edge counts) or in many (then the guard does)."""
    echo = Echo()
    async with serving(echo) as port, connected(HOST, port) as wire:
        data = post(b"", *fields)
        for at in range(0, len(data), 16_384 if torn else len(data)):
            wire.send(data[at : at + (16_384 if torn else len(data))])
            await asyncio.sleep(0.01 if torn else 0)
        await refused(wire, 431, "headers-too-large")
        assert echo.seen == []


async def test_the_most_that_a_head_may_have() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc", *[b"X%d: y" % number for number in range(MOST_FIELDS - 2)]))
        assert (await wire.reply()).body == b"abc"
        wire.send(post(b"abc", b"X: " + b"y" * (LONGEST_HEAD - 200)))
        assert (await wire.reply()).body == b"abc"


async def test_a_target_that_is_too_long() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(b"GET /" + b"a" * LONGEST_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = await wire.reply()
        assert reply.status == 431


async def test_a_head_without_an_end_is_refused_once_it_is_too_large() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nX: " + b"y" * (2 * LONGEST_HEAD))
        await refused(wire, 431, "headers-too-large")


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHo"], ids=["nothing", "half a head"])
async def test_a_head_that_does_not_end_in_time(beginning: bytes) -> None:
    async with serving(Echo(), Limits(head_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.send(beginning)
        assert await wire.closed() == b""


async def test_a_head_that_drips_gains_no_time() -> None:
    """Slow loris. Mutant: every byte begins the time anew."""
    clock = asyncio.get_running_loop()
    async with serving(Echo(), Limits(head_time=SHORT)) as port, connected(HOST, port) as wire:
        began = clock.time()
        ended = asyncio.create_task(wire.closed())
        while not ended.done() and clock.time() - began < 10 * SHORT:
            wire.send(b"G")
            await asyncio.wait({ended}, timeout=0.05)
        assert ended.done()


async def test_the_second_head_on_a_connection_is_timed_too() -> None:
    async with serving(Echo(), Limits(head_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc"))
        assert (await wire.reply()).status == 200
        wire.send(b"POST / HT")
        assert await wire.closed() == b""


async def test_a_body_that_does_not_end_in_time() -> None:
    async with serving(Echo(), Limits(body_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.send(post(b"ab", length=3))
        await refused(wire, 408, "body-timeout")


async def test_a_body_that_drips_gains_no_time() -> None:
    async with serving(Echo(), Limits(body_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.send(post(b"", length=1_000))
        answered = asyncio.create_task(wire.reply())
        while not answered.done():
            wire.send(b"a")
            await asyncio.wait({answered}, timeout=0.05)
        assert (await answered).status == 408
        assert await wire.closed() == b""


async def test_a_long_handler_is_not_a_slow_client() -> None:
    echo = Echo()
    async with serving(echo, Limits(head_time=SHORT, body_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc", path=b"/slow"))
        await echo.begun.wait()
        await asyncio.sleep(2 * SHORT)  # longer than any limit of the client's
        echo.go.set()
        assert (await wire.reply()).body == b"abc"


async def test_an_unread_body_ends_the_connection() -> None:
    """Else its rest would be read as the next request. Mutant: the connection is kept."""
    echo = Echo()
    async with serving(echo) as port, connected(HOST, port) as wire:
        inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        wire.send(post(inner[:-4], path=b"/unread", length=10_000))
        reply = await wire.reply()
        assert (reply.status, reply.headers.get(b"connection")) == (404, b"close")
        wire.send(inner)
        assert await wire.closed() == b""
        assert echo.seen == [("POST", "/unread")]


async def test_connections_over_the_limit_are_told_to_come_back() -> None:
    async with serving(Echo(), Limits(connections=2, idle=60)) as port, connected(HOST, port) as one:
        async with connected(HOST, port) as two:
            for wire in (one, two):
                wire.send(post(b"abc"))
                assert (await wire.reply()).status == 200
            async with connected(HOST, port) as three:
                reply = await three.reply()
                assert (reply.status, reply.headers[b"retry-after"]) == (503, b"2")
                assert json.loads(reply.body)["code"] == "overloaded"
                assert await three.closed() == b""
            one.send(post(b"still"))
            assert (await one.reply()).body == b"still"
        statuses: list[int] = []
        while 200 not in statuses:  # the place of `two` is free once the server has seen its end
            async with connected(HOST, port) as again:
                again.send(post(b"abc"))
                statuses.append((await again.reply()).status)
        assert set(statuses) <= {200, 503}


async def test_at_the_limit_the_oldest_that_asks_nothing_gives_way() -> None:
    """Sockets that somebody leaves open keep nobody out; a request under way is never cut off for another."""
    echo = Echo()
    async with (
        serving(echo, Limits(connections=3, idle=0)) as port,
        connected(HOST, port) as busy,
        connected(HOST, port) as silent,
        connected(HOST, port) as half,
    ):
        busy.send(post(b"slow", path=b"/slow"))
        await echo.begun.wait()
        half.send(b"POST / HTTP/1.1\r\nHost:")
        async with connected(HOST, port) as first, connected(HOST, port) as second:
            for wire, fresh in ((silent, first), (half, second)):
                fresh.send(post(b"abc"))
                assert (await fresh.reply()).status == 200
                assert await wire.closed() == b""
        echo.go.set()
        assert (await busy.reply()).body == b"slow"


async def test_where_every_connection_asks_something_nobody_gives_way() -> None:
    echo = Echo()
    async with serving(echo, Limits(connections=1, idle=0)) as port, connected(HOST, port) as busy:
        busy.send(post(b"slow", path=b"/slow"))
        await echo.begun.wait()
        async with connected(HOST, port) as more:
            await refused(more, 503, "overloaded")
        echo.go.set()
        assert (await busy.reply()).body == b"slow"


async def test_a_client_that_does_not_read_is_given_up() -> None:
    """Replies that nobody reads fill the buffers; then the connection must not last for ever. Mutant: no time to write."""
    async with serving(Echo(), Limits(write_time=SHORT)) as port, connected(HOST, port) as wire:
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that has stopped
        lost = asyncio.create_task(wire.writer.wait_closed())
        while not lost.done():
            if wire.writer.transport.get_write_buffer_size() < LONGEST_BODY:
                wire.send(post(bytes(LONGEST_BODY)))
            await asyncio.wait({lost}, timeout=0.02)
        assert isinstance(lost.exception(), ConnectionError)
