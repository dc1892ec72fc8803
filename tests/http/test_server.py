"""How the server reads what is no ordinary request, and how it begins and ends. Raw sockets; no store."""

from __future__ import annotations

import asyncio
import json
import logging
import socket

import pytest

from consumer.errors import SettingsError
from consumer.http.guard import Guard
from consumer.http.server import address_of, listening
from tests.http.raw import connected, exchanged, replies
from tests.http.serverkit import HOST, Echo, post, serving

pytestmark = pytest.mark.timeout(60)

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TAIL = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("TE and CL", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + TAIL),
        ("CL and TE", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n" + TAIL),
        ("two CLs", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n" + TAIL),
        ("list of CLs", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 0\r\n\r\n" + TAIL),
        ("CL with sign", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n" + TAIL),
        ("CL negative", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" + TAIL),
        ("CL hexadecimal", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n" + TAIL),
        ("CL endless", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n" + TAIL),
        ("TE unknown", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + TAIL),
        ("TE twice", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n" + TAIL),
        ("TE gzip", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + TAIL),
        ("space before colon", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n" + TAIL),
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n" + TAIL),
        ("CR in a value", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n" + TAIL),
        ("NUL in a name", b"GET / HTTP/1.1\r\nHost: x\r\nX\0: a\r\n\r\n" + TAIL),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n" + TAIL),
        ("two Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + TAIL),
        ("an empty line first", b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n" + TAIL),
        ("HTTP/0.9", b"GET /\r\n\r\n" + TAIL),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + TAIL),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + TAIL),
        ("spaces in the target", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" + TAIL),
        ("bytes in the target", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n" + TAIL),
        ("chunk size not hex", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + TAIL),
        ("chunk size negative", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + TAIL),
        ("chunk too long", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n" + TAIL),
        ("chunk size endless", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n" + TAIL),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
async def test_what_could_be_read_in_two_ways(
    name: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused and the connection ended, or read as the stricter of the two; never as a second request, never an error of ours."""
    echo = Echo()
    async with serving(echo) as port:
        statuses = replies(await exchanged(HOST, port, data))
    assert statuses, f"{name}: nothing was answered"
    assert statuses[0] in {200, 400, 501} or name == "CL endless", statuses
    assert all(status < 500 or status == 501 for status in statuses), statuses
    assert ("GET", "/smuggled") not in echo.seen
    assert not [record for record in caplog.records if record.exc_info], caplog.text


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"GET http://x/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("GET", "/a")),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("OPTIONS", "*")),
        (b"GET /a HTTP/1.0\r\n\r\n", ("GET", "/a")),
        (b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("HEAD", "/a")),
        (b"BREW /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("BREW", "/a")),
        (b"GET /a?b=%00%ff#c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("GET", "/a")),
        (b"GET /%ff%fe%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("GET", "/\ufffd\ufffd\0")),
        (b"GET //a/../b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", ("GET", "//a/../b")),
        (b"GET /a HTTP/1.1\nHost: x\nConnection: close\n\n", ("GET", "/a")),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nConnection: close\r\n\r\n", ("GET", "/a")),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: \xe4\xf6\r\nConnection: close\r\n\r\n", ("GET", "/a")),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n", ("GET", "/a")),
    ],
)
async def test_unusual_and_correct(
    data: bytes, seen: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    echo = Echo()
    async with serving(echo) as port:
        answer = await exchanged(HOST, port, data)
    assert replies(answer) == [200], answer
    assert echo.seen == [seen]
    assert not caplog.records


async def test_connect_is_refused() -> None:
    """h11 takes a 200 to it for a tunnel, and would fail on the body. Mutant: it reaches the application."""
    echo = Echo()
    async with serving(echo) as port:
        answer = await exchanged(HOST, port, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (replies(answer), echo.seen) == ([405], [])


async def test_chunk_extensions_and_trailers() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n")
        wire.send(b'3;a=b;c="d"\r\nabc\r\n0;last\r\nX-Trailer: y\r\n\r\n' + post(b"next"))
        assert [(await wire.reply()).body for _ in range(2)] == [b"abc", b"next"]


async def test_pipelined_requests_are_answered_in_order() -> None:
    echo = Echo()
    async with serving(echo) as port, connected(HOST, port) as wire:
        wire.send(b"".join(post(b"%d" % number) for number in range(200)))
        assert [(await wire.reply()).body for _ in range(200)] == [b"%d" % number for number in range(200)]


async def test_a_request_in_single_bytes() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        for byte in post(b"abc", b"X: y"):
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.reply()).body == b"abc"


async def test_head_has_no_body_and_the_connection_goes_on() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + post(b"abc"))
        assert (await wire.reply(head=True)).status == 200
        assert (await wire.reply()).body == b"abc"


async def test_a_malformed_request_is_a_problem() -> None:
    async with serving(Echo()) as port, connected(HOST, port) as wire:
        wire.send(b"nonsense\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, json.loads(reply.body)["code"]) == (400, "invalid-request")
        assert await wire.closed() == b""


@pytest.mark.parametrize("path", [b"/", b"/unread"])
@pytest.mark.parametrize("together", [True, False])
async def test_chunks_that_turn_out_malformed(
    path: bytes, together: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Before a response (400), or while one is out and the body is thrown away (closed). Mutant: uvicorn's own answer."""
    echo = Echo()
    async with serving(echo) as port, connected(HOST, port) as wire:
        wire.send(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        if not together:
            await wire.writer.drain()
            if path == b"/unread":
                assert (await wire.reply()).status == 404
            await asyncio.sleep(0.05)  # so that it comes by itself; where it does not, this is the other case
        wire.send(b"nonsense\r\n")
        rest = replies(await wire.closed())
        assert rest in ([[400]] if path == b"/" else [[400], [404], []])
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("at", range(0, 60, 7))
async def test_a_client_that_leaves_within_its_request(at: int, caplog: pytest.LogCaptureFixture) -> None:
    data = post(b"a" * 20)
    echo = Echo()
    async with serving(echo) as port:
        async with connected(HOST, port) as wire:
            wire.send(data[:at])
            await wire.writer.drain()
        async with connected(HOST, port) as wire:
            wire.send(post(b"abc"))
            assert (await wire.reply()).body == b"abc"
    assert not caplog.records, caplog.text


async def test_a_client_that_leaves_before_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    echo = Echo()
    async with serving(echo) as port:
        async with connected(HOST, port) as wire:
            wire.send(post(b"abc", path=b"/slow"))
            await echo.begun.wait()
        echo.go.set()
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("pipelined", [1, 3])
async def test_a_client_that_says_nothing_more_after_its_request_is_answered(pipelined: int) -> None:
    """As `nc -N` and some proxies do. Mutant: the connection is closed under the answer."""
    echo = Echo()
    async with serving(echo) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc", path=b"/slow") * pipelined)
        wire.writer.write_eof()
        await echo.begun.wait()
        for _ in range(10):
            await asyncio.sleep(
                0.01
            )  # the end of what it says is read meanwhile; where it is not, this passes, too
        echo.go.set()
        assert [(await wire.reply()).body for _ in range(pipelined)] == [b"abc"] * pipelined
        assert await wire.closed() == b""


async def test_half_a_request_and_its_end_are_no_request() -> None:
    echo = Echo()
    async with serving(echo) as port:
        assert await exchanged(HOST, port, post(b"abc", length=9), eof=True) == b""
    assert echo.gone == 1


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
async def test_a_version_that_is_not_spoken(version: bytes) -> None:
    echo = Echo()
    async with serving(echo) as port:
        answer = await exchanged(HOST, port, post(b"abc").replace(b"HTTP/1.1", b"HTTP/" + version))
    assert (replies(answer), echo.seen) == ([400], [])


async def test_an_application_that_fails_is_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("a bug")

    async with serving(broken) as port, connected(HOST, port) as wire:
        wire.send(post(b"abc"))
        reply = await wire.reply()
    assert (reply.status, json.loads(reply.body)["code"]) == (500, "failed")
    assert "a bug" not in reply.body.decode()
    [record] = caplog.records
    assert (record.name, record.levelno) == ("consumer.http", logging.CRITICAL)


async def test_the_end_finishes_what_is_under_way_and_waits_for_nobody_else() -> None:
    """Idle and half-open connections do not hold it. Mutant: requests are cut off."""
    echo = Echo()
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()

    async def serve(listens: asyncio.Future[int]) -> None:
        async with serving(echo, grace=20) as port:
            listens.set_result(port)
            await ending.wait()

    listens: asyncio.Future[int] = loop.create_future()
    server = asyncio.create_task(serve(listens))
    port = await listens
    async with connected(HOST, port) as busy, connected(HOST, port) as idle, connected(HOST, port) as half:
        idle.send(post(b"abc"))
        assert (await idle.reply()).status == 200
        half.send(b"POST / HTTP/1.1\r\nHo")
        busy.send(post(b"abc", path=b"/slow"))
        await echo.begun.wait()
        began = loop.time()
        ending.set()
        assert await idle.closed() == b""
        assert await half.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            async with connected(HOST, port):
                pass
        echo.go.set()
        reply = await busy.reply()
        assert (reply.status, reply.body) == (200, b"abc")
        assert await busy.closed() == b""
        await server
        assert loop.time() - began < 15, "it has not waited for the grace"


async def test_what_does_not_end_within_the_grace_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """A request whose body never comes, or whose handler is the runtime's: 503, no traceback."""
    echo = Echo()
    async with serving(echo, grace=1) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(post(b"abc", path=b"/slow"))
        await echo.begun.wait()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert replies(answer) == [503]
    assert b"retry-after" in answer
    assert not [record for record in caplog.records if record.exc_info], caplog.text


async def test_ipv6() -> None:
    async with (
        listening(Echo(), "::1", 0, grace=1) as address,
        connected("::1", int(address.rpartition(":")[2])) as wire,
    ):
        assert address.startswith("[::1]:")
        wire.send(post(b"abc"))
        assert (await wire.reply()).body == b"abc"


async def test_where_nobody_can_listen() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        says = f"cannot listen on {HOST}:{port}: Address already in use; choose .* a free port, or end what listens there$"
        with pytest.raises(SettingsError, match=says):
            async with listening(Echo(), HOST, port, grace=1):
                pass
    with pytest.raises(SettingsError, match="cannot listen on nowhere.invalid:80"):
        async with listening(Echo(), "nowhere.invalid", 80, grace=1):
            pass


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:80", ("::1", 80)),
        (":0", ("0.0.0.0", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", "8080", "x:", "x:70000", "x:-1", "x:a"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingsError, match="write HOST:PORT"):
        address_of(text)


async def test_a_response_waits_for_no_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's delay is off on every connection: head and body are two writes, and the second would wait 40 ms else."""
    without_delay: list[int] = []
    made = Guard.connection_made

    def watched(guard: Guard, transport: asyncio.BaseTransport) -> None:
        connection = transport.get_extra_info("socket")
        without_delay.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(guard, transport)

    monkeypatch.setattr(Guard, "connection_made", watched)
    async with serving(Echo()) as port:
        assert replies(await exchanged(HOST, port, GET)) == [200]
    assert len(without_delay) == 1
    assert without_delay[0] != 0
