"""The outermost layer: limits on the head, faults as problems, and a connection that is not used again after an unread body."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from consumer.declare.ways import BadRequest, Unauthenticated
from consumer.errors import BrokerUnavailable, ConsumerError, StoreUnavailable
from consumer.http.answer import Answer, App, Message, Receive, Scope, Send
from consumer.http.asked import refused
from consumer.http.problem import problem

__all__ = ["LONGEST_HEAD", "MOST_FIELDS", "Edge"]

_log = logging.getLogger("consumer.http")

MOST_FIELDS = 100
LONGEST_HEAD = 64 * 1024
"""Header fields, and bytes of them and of the request's target together, that a request may have."""

LINGER = 1.0
LINGERS_FOR = 2 * 1024 * 1024
"""Seconds, and bytes, for which the rest of a refused body is thrown away before the connection is closed: closing at once
would reset it, and a client that is still sending would lose the answer that tells it why."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Wraps an ASGI application.

    Args:
        app: what is behind it.
    """

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see ASGI."""
        exchange = _Exchange(scope, receive, send)
        try:
            refused = _head_fault(scope)
            if refused is not None:
                await refused.with_headers((b"connection", b"close")).send(exchange.send)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        except Exception as fault:
            answer = _answer_to(fault, scope)
            if exchange.started:
                raise  # half a response is out: only the server can end it, by closing the connection
            await answer.send(exchange.send)
        await exchange.finish()


class _Exchange:
    """One request and its response, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._unread = any(
            name == b"transfer-encoding" or (name == b"content-length" and length.strip() != b"0")
            for name, length in scope["headers"]
        )
        self._held: Message | None = None
        self.started = False

    async def receive(self) -> Message:
        """See ASGI."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Send; the end of a response to an unread request is held back until the rest of the request was thrown away."""
        if message["type"] == "http.response.start":
            self.started = True
            if self._unread:
                headers = [pair for pair in message["headers"] if pair[0] != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
        elif self._unread and not message.get("more_body", False):
            self._held = {"type": "http.response.body", "body": b""}
            message = {**message, "more_body": True}
        await self._send(message)

    async def finish(self) -> None:
        """Throw away what is left of the request, for a while, and end the response."""
        if self._held is None:
            return
        size = 0
        try:
            async with asyncio.timeout(LINGER):
                while self._unread and size < LINGERS_FOR:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
        await self._send(self._held)


def _head_fault(scope: Scope) -> Answer | None:
    if scope["method"] == "CONNECT":
        return problem("method-not-allowed", "this is no proxy")
    pairs = scope["headers"]
    if len(pairs) > MOST_FIELDS:
        return problem("headers-too-large", f"at most {MOST_FIELDS} header fields are read")
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    framing = set()
    for name, value in pairs:
        size += len(name) + len(value) + 4
        if name in _FRAMING:
            framing.add(name)
    if len(framing) > 1:
        # RFC 9112 §6.1: a proxy in front may have believed the other one, and taken the rest for another request.
        return problem("invalid-request", "Content-Length beside Transfer-Encoding")
    if size > LONGEST_HEAD:
        return problem("headers-too-large", f"at most {LONGEST_HEAD} bytes are read")
    return None


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def _answer_to(fault: Exception, scope: Scope) -> Answer:
    """Return the problem for what an application has raised. Starlette's `HTTPException` is known by its shape."""
    status = getattr(fault, "status_code", None)
    if isinstance(status, int):
        code = {404: "not-found", 405: "method-not-allowed", 401: "unauthenticated"}.get(status, "http-error")
        more = [(n.lower().encode(), v.encode()) for n, v in (getattr(fault, "headers", None) or {}).items()]
        return problem(code, "", status=status).with_headers(*more)
    if isinstance(fault, BadRequest | Unauthenticated):
        return refused(f"{scope['method']} {scope['path']}", fault)
    if isinstance(fault, StoreUnavailable | BrokerUnavailable):
        _log.warning("%s %s: %s", scope["method"], scope["path"], fault)
        return problem("store-unavailable")
    level = logging.ERROR if isinstance(fault, ConsumerError) else logging.CRITICAL
    _log.log(level, "%s %s failed", scope["method"], scope["path"], exc_info=fault)
    return problem("failed")
