"""Traces: what the path, the ways in and the relay tell whoever draws one picture of what one request has caused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from consumer.message import Envelope, Headers, Outgoing

__all__ = ["NOTHING", "Span", "Tracing", "Untraced"]


class Span(Protocol):
    """One thing that is going on."""

    def ended(self, outcome: str, error: BaseException | None = None, *, failed: bool = False) -> None:
        """Say how it has ended; the block around it says when.

        Args:
            outcome: a word of a small set (an attempt's outcome, an HTTP status).
            error: what was raised; its type is kept, its text is not (it may hold keys).
            failed: it counts as an error.
        """
        ...


class Tracing(Protocol):
    """Draws spans, and carries their context from message to message. Never raises, never blocks."""

    def attempt(
        self, handler: str, envelopes: Sequence[Envelope], attempt: int, *, operation: str = "process"
    ) -> AbstractContextManager[Span]:
        """Return a block around one call of a handler, inside which it is what goes on.

        Args:
            handler: the handler's name.
            envelopes: what it is called with: one, or the items of a batch.
            attempt: counts from 1.
            operation: `process`, or `reconcile` where it is asked what became of an attempt.
        """
        ...

    def request(
        self, method: str, route: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> AbstractContextManager[Span]:
        """Return a block around an HTTP request; nothing is drawn where something else has begun a span for it.

        Args:
            method: of the request.
            route: as declared, never the path: that may hold keys.
            headers: as ASGI gives them.
        """
        ...

    def publishing(self, topic: str) -> AbstractContextManager[Span]:
        """Return a block in which a program publishes a message itself (`Running.publish`)."""
        ...

    def carried(self, headers: Headers) -> Headers:
        """Return `headers` with the context of what goes on now, where they carry none and something does."""
        ...

    def sent(self, outgoing: Outgoing, began: int, refused: str | None) -> None:
        """A committed message was published, or refused, by the relay; its own context is not touched.

        Args:
            outgoing: what it was.
            began: when, in nanoseconds since 1970.
            refused: the sink's reason, for good; `None` where it took the message.
        """
        ...


class _Unseen:
    """A span that nobody draws."""

    def ended(self, outcome: str, error: BaseException | None = None, *, failed: bool = False) -> None:
        """See `Span`."""


NOTHING: AbstractContextManager[Span] = nullcontext(_Unseen())
"""A block in which nothing is drawn."""


class Untraced:
    """Draws nothing, for the price of a call."""

    def attempt(
        self, handler: str, envelopes: Sequence[Envelope], attempt: int, *, operation: str = "process"
    ) -> AbstractContextManager[Span]:
        """See `Tracing`."""
        del handler, envelopes, attempt, operation
        return NOTHING

    def request(
        self, method: str, route: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> AbstractContextManager[Span]:
        """See `Tracing`."""
        del method, route, headers
        return NOTHING

    def publishing(self, topic: str) -> AbstractContextManager[Span]:
        """See `Tracing`."""
        del topic
        return NOTHING

    def carried(self, headers: Headers) -> Headers:
        """See `Tracing`."""
        return headers

    def sent(self, outgoing: Outgoing, began: int, refused: str | None) -> None:
        """See `Tracing`."""
