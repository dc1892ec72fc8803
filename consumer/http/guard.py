"""What a connection may cost: how many there are, how long and how large a head may be. uvicorn bounds none of it by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from consumer.http.answer import Answer
from consumer.http.body import BODY_TIME
from consumer.http.corked import Corked
from consumer.http.edge import LONGEST_HEAD
from consumer.http.problem import problem

__all__ = ["HEAD_TIME", "WRITE_TIME", "Guard", "Guarded", "Limits", "refusal"]

_log = logging.getLogger("consumer.http")

HEAD_TIME = 10.0
"""Seconds from the first byte of a head (on a new connection: from its start) to its end."""

WRITE_TIME = 30.0
"""Seconds for which a client may read nothing of a response that does not fit into the socket's buffers."""

MOST_CONNECTIONS = 1_000
IDLE = 1.0
"""Seconds for which a connection must have asked nothing before a new one may take its place."""

LINGER = 1.0
"""Seconds for which a refused connection is read and its bytes thrown away, so that the client can read the refusal."""


class Limits(msgspec.Struct, frozen=True):
    """Of one server.

    Attributes:
        connections: open at once. A further one takes the place of the oldest that asks nothing; where all do, it is told 503.
        idle: see `IDLE`.
        head_time: see `HEAD_TIME`.
        head_bytes: of the request line and the header fields together.
        body_time: see `body.BODY_TIME`; counted where the body is read.
        write_time: see `WRITE_TIME`.
    """

    connections: int = MOST_CONNECTIONS
    head_time: float = HEAD_TIME
    head_bytes: int = LONGEST_HEAD
    body_time: float = BODY_TIME
    write_time: float = WRITE_TIME
    idle: float = IDLE


class Guarded:
    """The connections of one server.

    Args:
        limits: theirs.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: dict[Guard, None] = {}

    def guard(self, inner: Any, reading_head: Callable[[], bool], owes: Callable[[], bool]) -> Guard:
        """Return a protocol that stands before `inner`.

        Args:
            inner: the server's protocol.
            reading_head: says whether that waits for the end of a head.
            owes: told that its client says nothing more; says whether that has asked all of it, and waits for an answer.
        """
        return Guard(inner, reading_head, owes, self)

    def make_room(self) -> bool:
        """Say whether one more connection may open; at the limit the oldest that asks nothing is closed for it.

        Else a thousand sockets that somebody opens and leaves alone would keep everybody out.
        """
        if len(self.open) < self.limits.connections:
            return True
        since = asyncio.get_running_loop().time() - self.limits.idle
        return any(guard.give_way(since) for guard in self.open)


class Guard(asyncio.Protocol):
    """Stands before the server's protocol, which parses. It only counts and looks at the clock.

    Args:
        inner: the server's protocol.
        reading_head: whether `inner` is between two requests or within a head.
        owes: whether a client that says nothing more is to be answered yet.
        all_: every connection of this server.
    """

    def __init__(
        self, inner: Any, reading_head: Callable[[], bool], owes: Callable[[], bool], all_: Guarded
    ) -> None:
        self._inner = inner
        self._reading_head = reading_head
        self._owes = owes
        self._all = all_
        self._transport: Corked | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._head = 0
        self._asked_at = 0.0
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream's transport is one
        self._transport = Corked(transport)
        if not self._all.make_room():
            self._refuse(problem("overloaded"))
            return
        self._asked_at = asyncio.get_running_loop().time()
        self._all.open[self] = None
        self._inner.connection_made(self._transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._refused or self._transport is None:
            return
        within = self._reading_head()
        try:
            self._inner.data_received(data)
        except Exception as fault:  # noqa: BLE001 - of a parser, by bytes of a stranger: one line, not a traceback each
            _log.info("a connection is closed: %s: %s", type(fault).__name__, fault)
            self._transport.close()
            return
        if not (within and self._reading_head()):
            self._asked_at = asyncio.get_running_loop().time()
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
        """See `asyncio.Protocol`. Who has asked and then said "that was all" gets the answer; half a request gets none."""
        if self._refused or self._transport is None:
            return None
        self._transport.flush()  # the loop closes the connection where nothing is owed any more
        self._inner.eof_received()
        return self._owes()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._disarm()
        self._written()
        if self in self._all.open:
            del self._all.open[self]
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self in self._all.open:
            self._inner.pause_writing()
            self._written()
            self._writing = asyncio.get_running_loop().call_later(self._all.limits.write_time, self._unread)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._written()
        if self in self._all.open:
            self._inner.resume_writing()

    def give_way(self, since: float) -> bool:
        """Close this connection where it has asked nothing since then, by the loop's clock; say whether it is closed.

        Not while a response waits for its reader: that would not be closed at once, and would be cut off.
        """
        transport = self._transport
        if self._refused or transport is None or self._asked_at > since or not self._reading_head():
            return False
        if transport.get_write_buffer_size():
            return False
        self._refused = True  # one place is given once
        self._disarm()
        transport.close()
        return True

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

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _unread(self) -> None:
        """Give up a client that does not read: closing would wait for it."""
        self._writing = None
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, answer: Answer) -> None:
        """Answer in the server's stead, and close soon."""
        self._refused = True
        self._disarm()
        assert self._transport is not None, "there is data only on a connection"  # noqa: S101
        self._transport.write(refusal(answer))
        asyncio.get_running_loop().call_later(LINGER, self._transport.close)


def refusal(answer: Answer) -> bytes:
    """Return a response as bytes, for a connection that ends with it."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
    lines += [b"%s: %s\r\n" % pair for pair in answer.headers]
    lines.append(b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(answer.body))
    return b"".join(lines) + answer.body
