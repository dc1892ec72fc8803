"""What a provider is asked and what it answers. Values only: no server, no clock, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from consumer.message import Headers

__all__ = ["Item", "Provider", "Reason", "Refused", "Reply", "Request", "Verified", "receive"]


class Request(msgspec.Struct, frozen=True, gc=False):
    """An HTTP request as it arrived, the body still raw.

    Attributes:
        method: upper case.
        path: as routed; nothing is decided by it.
        query: the raw query string, without its question mark.
        headers: names in lower case and values, in the order of arrival; a name may occur more than once.
        body: the bytes that were on the wire, counted against the limit by whoever read them.

    Raises:
        TypeError: text where bytes are meant. A signature would never be found there, and every request refused.
    """

    method: str = "POST"
    path: str = "/"
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        """Refuse what a caller who has text would pass."""
        given: Any = self  # what the annotations promise is what is asked
        if isinstance(given.headers, Mapping):
            raise TypeError("Request(headers=): a mapping; pass pairs of bytes, since a name may come twice")
        for name, value in given.headers:
            if isinstance(name, str) or isinstance(value, str):
                raise TypeError(
                    f"Request(headers=): {name!r} is text, or its value is; pass bytes, name and value: value.encode('latin-1')"
                )
        if isinstance(given.body, str) or isinstance(given.query, str):
            raise TypeError(
                "Request(body=, query=): text; pass the bytes that arrived: they are what is signed"
            )


class Item(msgspec.Struct, frozen=True, gc=False):
    """One event of a request.

    Attributes:
        event_id: how the provider names it; `None` where it has no usable name.
        value: its raw bytes: the whole body, or one element of a batch.
        guard: 32 bytes, a second key, set where the name proves nothing although the content is authentic: who has
            captured one delivery could send it again under a new name, but never with another guard.
    """

    event_id: str | None
    value: bytes
    guard: bytes | None = None


class Verified(msgspec.Struct, frozen=True, gc=False):
    """An authentic request. It deserves a 2xx once it is durable, whatever its body turns out to be.

    Attributes:
        items: its events, one except in batches; an empty batch has none.
        id_signed: the events' names are covered by the signature.
        timestamp: when it was sent, in seconds since 1970, where the provider says so. It is checked here, once: a
            stored request that is worked on later is not judged by it again.
        secret_index: which of the configured secrets matched, counted from 0; tells when an old one is no longer used.
        headers: those worth keeping (an allow-list: no signatures, no credentials), in order.
        remark: what is odd, for the log, e.g. why there is no event id.
    """

    items: tuple[Item, ...]
    id_signed: bool
    timestamp: float | None
    secret_index: int
    headers: Headers = ()
    remark: str | None = None

    @property
    def event_id(self) -> str | None:
        """The event's name; `None` for a batch."""
        return self.items[0].event_id if len(self.items) == 1 else None

    @property
    def guard(self) -> bytes | None:
        """The event's second key, see `Item.guard`; `None` for a batch."""
        return self.items[0].guard if len(self.items) == 1 else None


class Reason(enum.StrEnum):
    """Why a request was refused: few, so that a metric may count them."""

    MISSING = "missing"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    STALE = "stale"
    FUTURE = "future"
    MISMATCH = "mismatch"


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A request that is not authentic. Nothing of it may be stored, looked up or parsed.

    Attributes:
        status: the HTTP status to answer, without a body: callers learn nothing from it.
        reason: its class.
        text: for the log; names headers, holds no value of any.
    """

    status: int
    reason: Reason
    text: str


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a provider's handshake wants to hear. The request is answered by it; nothing lands.

    Attributes:
        status: the HTTP status.
        body: may be empty.
        headers: names in lower case, `content-type` included where there is a body.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Provider(Protocol):
    """Who sends webhooks, and how its requests are known to be its own."""

    @property
    def name(self) -> str:
        """What `Message.source` becomes: `stripe`."""
        ...

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods that mean something; others are 405."""
        ...

    @property
    def accepted(self) -> int:
        """The status that says "stored, or known already"."""
        ...

    @property
    def signs_body(self) -> bool:
        """The body is covered by the signature."""
        ...

    @property
    def retry_horizon(self) -> float | None:
        """Seconds for which it repeats what was not accepted; a handler's retention must be longer. `None`: not known."""
        ...

    def check(self) -> None:
        """Read the secrets once, at start, so that a wrong one is heard of before the first request.

        Raises:
            SettingsError: a secret is missing or malformed, or the package for its algorithm is not installed.
        """
        ...

    def greet(self, request: Request, now: float) -> Reply | Refused | None:
        """Answer a handshake that carries no signature; `None`: it is none. `now`: seconds since 1970."""
        ...

    def verify(self, request: Request, now: float) -> Verified | Refused:
        """Decide whether the request is authentic, on its raw bytes. No input makes it raise.

        Args:
            request: as it arrived.
            now: seconds since 1970 at its receipt.

        Raises:
            SettingsError: a secret is missing or malformed, or all have expired: answer 503.
        """
        ...

    def answer(self, request: Request, verified: Verified) -> Reply | None:
        """Answer a signed handshake, after `verify`; `None`: it is an event and lands."""
        ...


def receive(provider: Provider, request: Request, now: float) -> Verified | Refused | Reply:
    """Do all that may be done with a request before it is stored: handshakes, method, signature.

    Args:
        provider: who should have sent it.
        request: as it arrived.
        now: seconds since 1970 at its receipt.

    Returns:
        `Verified`: land its items, then answer `provider.accepted`. `Refused` and `Reply`: answer them, store nothing.

    Raises:
        SettingsError: see `Provider.verify`.
    """
    if request.method not in provider.methods:
        return Reply(405, headers=((b"allow", ", ".join(provider.methods).encode()),))
    greeting = provider.greet(request, now)
    if greeting is not None:
        return greeting
    if request.method != "POST":
        return Reply(405, headers=((b"allow", b"POST"),))
    verdict = provider.verify(request, now)
    if isinstance(verdict, Refused):
        return verdict
    return provider.answer(request, verdict) or verdict
