"""A whole response as a value, and how it is sent over ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["Answer", "App", "Message", "Pairs", "Receive", "Scope", "Send", "http_date", "json_answer"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Pairs = tuple[tuple[bytes, bytes], ...]


class Answer(msgspec.Struct, frozen=True):
    """A response.

    Attributes:
        status: the HTTP status.
        body: all of it.
        headers: names in lower case; `content-length` is added when it is sent.
    """

    status: int
    body: bytes = b""
    headers: Pairs = ()

    def with_headers(self, *more: tuple[bytes, bytes]) -> Answer:
        """Return a copy with more headers."""
        return Answer(self.status, self.body, (*self.headers, *more))

    async def send(self, send: Send) -> None:
        """Send it over ASGI."""
        headers = [*self.headers]
        body = self.body
        if self.status == 204:
            body = b""  # RFC 9110 §15.3.5: a 204 ends with its headers
        else:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def json_answer(status: int, value: Any, *more: tuple[bytes, bytes]) -> Answer:
    """Return a JSON response that nobody keeps."""
    headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"), *more)
    return Answer(status, msgspec.json.encode(value), headers)


def http_date(seconds: float) -> bytes:
    """Return a time (seconds since 1970) as HTTP writes dates; a fraction of a second is cut off."""
    return _date(int(seconds))


@lru_cache(maxsize=64)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()
