"""Serving an ASGI application by uvicorn, under limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from consumer.errors import SettingsError
from consumer.http.answer import App, Receive, Scope, Send
from consumer.http.guard import Guarded, Limits, refusal
from consumer.http.problem import problem

__all__ = ["address_of", "listening"]

OTHER_FILES = 64
"""Files that a process may need beside the connections of its clients: to the store, the broker, its log."""

KEEP_ALIVE = 5
"""Seconds that an idle connection stays open."""

LARGEST_READ = 1024 * 1024
"""Bytes that the parser may hold of an unfinished head: above what one read brings, so that the guard is asked first."""


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:8080`, `[::1]:8080` or `:8080` (every address).

    Raises:
        SettingsError: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise SettingsError(f"{text!r}: write HOST:PORT, as in 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - as was asked


@asynccontextmanager
async def listening(
    app: App, host: str, port: int, *, grace: float, limits: Limits | None = None
) -> AsyncIterator[str]:
    """Serve `app` for as long as the block lasts; its lifespan is the caller's. At the end requests under way are finished.

    Args:
        app: what is served.
        host, port: where; port 0 takes a free one.
        grace: seconds that the end waits for requests.
        limits: of connections and heads.

    Yields:
        The address: `127.0.0.1:8080`.

    Raises:
        SettingsError: nobody can listen there, or uvicorn is not installed.
    """
    try:
        import h11  # noqa: PLC0415 - only who serves HTTP needs it
        import uvicorn  # noqa: PLC0415
        from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SettingsError("serving HTTP needs uvicorn: pip install 'idempotent-consumer[http]'") from None
    guarded = Guarded(_within_files(limits or Limits()))

    def protocol(**given: Any) -> asyncio.Protocol:
        inner: Any = H11Protocol(**given)
        # uvicorn's own answers in plain text, and fails where a response has begun before the request turned out malformed.
        inner.send_400_response = partial(_malformed, inner, h11)
        return guarded.guard(inner, lambda: inner.conn.their_state is h11.IDLE, partial(_owes, inner))

    bound = _bound(host, port)
    made: Any = protocol
    server = uvicorn.Server(
        uvicorn.Config(
            _Served(app, guarded.limits),
            http=made,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(grace)),
            h11_max_incomplete_event_size=LARGEST_READ,
        )
    )
    # Signals are the command's: it ends the worker and the server together.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve(sockets=[bound]), name="http")
    shown = f"[{host}]" if ":" in host else host
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        yield f"{shown}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        log = logging.getLogger("uvicorn.error")
        log.addFilter(_expected)
        try:
            await serving
        finally:
            log.removeFilter(_expected)


def _expected(record: logging.LogRecord) -> bool:
    """Keep back uvicorn's line of requests that outlast the grace: they are answered, and it is how an end may be."""
    return not str(record.msg).startswith("Cancel %s running task(s)")


@dataclass(frozen=True, slots=True)
class _Served:
    """The application under this server's limits, and with its end."""

    app: App
    limits: Limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        if scope["http_version"] not in {"1.0", "1.1"}:
            # The parser takes any digits, and would speak 1.1 to a client that means something else.
            answer = problem("invalid-request", "HTTP/1.1 is spoken here, and HTTP/1.0")
            await answer.with_headers((b"connection", b"close")).send(send)
            return
        scope["consumer.body_time"] = self.limits.body_time
        _origin_form(scope)
        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            # Only the end of the server does that, after the grace. What was started is the runtime's, and goes on there.
            if not started:
                answer = problem("overloaded", "this process ends").with_headers((b"connection", b"close"))
                await answer.send(send)


def _origin_form(scope: Scope) -> None:
    """Make `/a` of the target `http://host/a`: RFC 9112 §3.2.2 wants every server to take it."""
    raw: bytes = scope["raw_path"]
    scheme, separator, rest = raw.partition(b"://")
    if separator and scheme.lower() in {b"http", b"https"}:
        scope["raw_path"] = b"/" + rest.partition(b"/")[2]
        scope["path"] = unquote(scope["raw_path"].decode("ascii"))


def _owes(inner: Any) -> bool:
    """Say whether a client that has half-closed its connection waits for an answer; the connection ends with that."""
    cycle = inner.cycle
    if cycle is None or cycle.response_complete or cycle.more_body:
        return False
    pipelined, _ = inner.conn.trailing_data
    cycle.keep_alive = bool(pipelined)
    return True


def _malformed(inner: Any, h11: Any, message: str) -> None:  # noqa: ARG001 - uvicorn's text says less
    """Refuse what is no HTTP: with a problem where nothing of a response is out, else by closing."""
    if inner.cycle is not None and not inner.cycle.response_complete:
        # Its application finds that the client has gone, and says nothing more on this connection.
        inner.cycle.disconnected = True
        inner.cycle.message_event.set()
    if inner.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
        inner.transport.write(refusal(problem("invalid-request")))
    inner.transport.close()


def _within_files(limits: Limits) -> Limits:
    """Return limits whose connections this process may open: a server out of files can refuse nobody politely."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return msgspec.structs.replace(limits, connections=max(1, min(limits.connections, soft - OTHER_FILES)))


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, protocol, _, address = found[0]
        # With its protocol named: without, asyncio does not know it for TCP and leaves Nagle's delay on, and the body of a
        # response waits 40 ms for the client's kernel to acknowledge its head.
        bound = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(2048)
        except OSError:
            bound.close()
            raise
    except OSError as fault:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {fault.strerror or fault}; "
            "choose an address of this machine and a free port, or end what listens there"
        ) from None
    bound.setblocking(False)  # noqa: FBT003 - its only parameter
    return bound
