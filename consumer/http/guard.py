"""What a connection may cost: how many there are, how long and how large a head may be. uvicorn bounds none of it by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from consumer.http.answer import Answer
from consumer.http.edge import LONGEST_HEAD
from consumer.http.problem import problem

__all__ = ["HEAD_TIME", "Guard", "Guarded", "Limits"]

HEAD_TIME = 10.0
"""Seconds from the first byte of a head (on a new connection: from its start) to its end."""

MOST_CONNECTIONS = 1_000
LINGER = 1.0
"""Seconds for which a refused connection is read and its bytes thrown away, so that the client can read the refusal."""


class Limits(msgspec.Struct, frozen=True):
    """Of one server.

    Attributes:
        connections: open at once; more are told 503.
        head_time: see `HEAD_TIME`.
        head_bytes: of the request line and the header fields together.
    """

    connections: int = MOST_CONNECTIONS
    head_time: float = HEAD_TIME
    head_bytes: int = LONGEST_HEAD


class Guarded:
    """The connections of one server.

    Args:
        limits: theirs.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[Guard] = set()

    def guard(self, inner: Any, reading_head: Any) -> Guard:
        """Return a protocol that stands before `inner`; `reading_head` says whether that waits for the end of a head."""
        return Guard(inner, reading_head, self)


class Guard(asyncio.Protocol):
    """Stands before the server's protocol, which parses. It only counts and looks at the clock.

    Args:
        inner: the server's protocol.
        reading_head: whether `inner` is between two requests or within a head.
        all_: every connection of this server.
    """

    def __init__(self, inner: Any, reading_head: Any, all_: Guarded) -> None:
        self._inner = inner
        self._reading_head = reading_head
        self._all = all_
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream's transport is one
        self._transport = transport
        if len(self._all.open) >= self._all.limits.connections:
            self._refuse(problem("overloaded"))
            return
        self._all.open.add(self)
        self._inner.connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._refused:
            return
        within = self._reading_head()
        self._inner.data_received(data)
        if not (within and self._reading_head()):
            self._disarm()
            return
        self._head += len(data)
        if self._head > self._all.limits.head_bytes:
            self._refuse(
                problem("headers-too-large", f"at most {self._all.limits.head_bytes} bytes are read")
            )
        elif self._timer is None:
            self._arm()

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`."""
        if not self._refused:
            self._inner.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._disarm()
        if self in self._all.open:
            self._all.open.discard(self)
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self in self._all.open:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self in self._all.open:
            self._inner.resume_writing()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._all.limits.head_time, self._late)

    def _disarm(self) -> None:
        self._head = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._transport is not None and self._reading_head():
            self._transport.close()

    def _refuse(self, answer: Answer) -> None:
        """Answer in the server's stead, and close soon."""
        self._refused = True
        self._disarm()
        assert self._transport is not None, "there is data only on a connection"  # noqa: S101
        lines = [b"HTTP/1.1 %d \r\n" % answer.status]
        lines += [b"%s: %s\r\n" % pair for pair in answer.headers]
        lines.append(b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(answer.body))
        self._transport.write(b"".join(lines) + answer.body)
        asyncio.get_running_loop().call_later(LINGER, self._transport.close)
