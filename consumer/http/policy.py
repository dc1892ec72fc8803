"""Which responses are stored, which of their header fields, and how large they may be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from consumer.errors import RegistrationError
from consumer.http.answer import Pairs

__all__ = ["KEPT", "NEVER_KEPT", "UNSTORED", "Policy"]

UNSTORED = frozenset({400, 401, 403, 409, 422, 429, 503})
"""By these statuses an application says that it has not begun: the request is malformed or invalid, its sender is not known
or may not, something else is in the way, there is too much to do. Stored, they would trap a client that does better."""

KEPT = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-location",
        "content-type",
        "etag",
        "last-modified",
        "link",
        "location",
        "vary",
    }
)
"""Header fields that belong to the result. Everything else belongs to the one exchange that it was sent in."""

NEVER_KEPT = frozenset(
    {
        "authentication-info",
        "authorization",
        "connection",
        "content-length",
        "date",
        "idempotency-key-expires",
        "idempotent-replayed",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "set-cookie",
        "set-cookie2",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
    }
)
"""A cookie or a credential would be handed to whoever replays; the others describe one connection."""

_EVENTS = b"text/event-stream"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is stored of a response.

    Args:
        unstored: statuses that say "nothing has happened": the key is free again. Default: `UNSTORED`.
        doubtful: statuses that say "it is not known what has happened": the key is in doubt. Default: none, so that a 500
            is the result; `{500}` is right where a framework makes one of every exception, as Litestar does.
        headers: names of header fields to store beside `KEPT`, in any case.
        largest: bytes of the largest body that is stored. A larger one, or a stream of events, is passed on as it comes;
            the key is done all the same, and a replay is told `response-not-stored`.

    Raises:
        RegistrationError: a status is none, or a header field must never be stored.
    """

    unstored: Collection[int] = UNSTORED
    doubtful: Collection[int] = ()
    headers: Collection[str] = ()
    largest: int = 256 * 1024
    kept: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        for status in self.unstored:
            if not 400 <= status <= 599:
                raise RegistrationError(
                    f"Policy(unstored=…): {status!r} is no status of a failure (400 to 599); what succeeded must be stored, "
                    "or it is done twice"
                )
        for status in self.doubtful:
            if not 500 <= status <= 599:
                raise RegistrationError(
                    f"Policy(doubtful=…): {status!r} is no status of a server's failure (500 to 599); leave it out"
                )
        more = {name.lower() for name in self.headers}
        if more & NEVER_KEPT:
            raise RegistrationError(
                f"Policy(headers=…): {min(more & NEVER_KEPT)!r} is never stored: it belongs to one exchange; leave it out"
            )
        if self.largest < 0:
            raise RegistrationError(f"Policy(largest={self.largest!r}): must be 0 bytes or more")
        object.__setattr__(self, "kept", frozenset(name.encode() for name in KEPT | more))

    def stores(self, status: int) -> bool:
        """Whether a response of this status is the key's result."""
        return status not in self.unstored

    def too_large(self, headers: Pairs) -> bool:
        """Whether the head of a response says already that its body cannot be stored."""
        for name, value in headers:
            if name == b"content-length" and value.strip().isdigit() and int(value) > self.largest:
                return True
            if name == b"content-type" and value.strip().lower().startswith(_EVENTS):
                return True
        return False

    def result_headers(self, headers: Pairs) -> Pairs:
        """Return the header fields that are stored."""
        return tuple((name, value) for name, value in headers if name in self.kept)
