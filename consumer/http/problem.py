"""What a caller is told when there is no result: RFC 9457 problem details, one row per code. `docs/problems.md` explains each."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from consumer.http.answer import Answer

__all__ = ["PROBLEMS", "Problem", "problem"]

TYPE = "urn:idempotent-consumer:problem:"
AGAIN_SOON = 1
AGAIN_LATER = 2
"""Seconds of Retry-After: for a key that is being worked on, and for a service that is in trouble."""


class Problem(msgspec.Struct, frozen=True):
    """A row.

    Attributes:
        status: the HTTP status.
        title: the same for every occurrence.
        retryable: the same request may be sent again, with the same key, as it is.
        after: seconds of Retry-After; `None`: the header is not sent.
    """

    status: int
    title: str
    retryable: bool = False
    after: int | None = None


PROBLEMS: Mapping[str, Problem] = {
    "key-missing": Problem(400, "Idempotency-Key is missing"),
    "key-malformed": Problem(400, "Idempotency-Key is malformed"),
    "invalid-request": Problem(400, "The request is malformed"),
    "invalid-tenant": Problem(400, "The tenant is malformed"),
    "invalid-body": Problem(400, "The body is not what this operation takes"),
    "unauthenticated": Problem(401, "It is not known who asks"),
    "not-found": Problem(404, "There is nothing here"),
    "method-not-allowed": Problem(405, "This method means nothing here"),
    "body-timeout": Problem(408, "The body did not arrive in time", retryable=True),
    "in-progress": Problem(
        409, "A request is outstanding for this Idempotency-Key", retryable=True, after=AGAIN_SOON
    ),
    "outcome-unknown": Problem(409, "The outcome of an earlier attempt is not known"),
    "key-expired": Problem(409, "Idempotency-Key is older than what is remembered"),
    "response-not-stored": Problem(409, "The operation was done, and its response was not kept"),
    "too-large": Problem(413, "The body is too large"),
    "encoding": Problem(415, "Content-Encoding is not supported"),
    "payload-mismatch": Problem(422, "Idempotency-Key is already used with another payload"),
    "rejected": Problem(422, "The operation was refused"),
    "headers-too-large": Problem(431, "The header block is too large"),
    "failed": Problem(500, "The operation failed, and may be tried again", retryable=True),
    "overloaded": Problem(503, "There is too much to do at the moment", retryable=True, after=AGAIN_LATER),
    "try-again": Problem(
        503, "The operation cannot be done at the moment", retryable=True, after=AGAIN_LATER
    ),
    "store-unavailable": Problem(503, "The store does not answer", retryable=True, after=AGAIN_LATER),
    "broker-unavailable": Problem(503, "The broker does not answer", retryable=True, after=AGAIN_LATER),
    "secret-missing": Problem(
        503, "This webhook's secret is not configured", retryable=True, after=AGAIN_LATER
    ),
}


class _Body(msgspec.Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    code: str
    retryable: bool
    detail: str | None = None


def problem(code: str, detail: str = "", *, status: int | None = None, after: float | None = None) -> Answer:
    """Return the response that says what is wrong.

    Args:
        code: of `PROBLEMS`, or an application's own one with a `status`.
        detail: of this occurrence, for people; no secret of anybody.
        status: in the stead of the table's.
        after: seconds of Retry-After in the stead of the table's; whole ones, from 1 to 60, are sent.
    """
    row = PROBLEMS.get(code) or Problem(status or 400, code.replace("-", " ").capitalize())
    number = row.status if status is None else status
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-language", b"en"),
        (b"cache-control", b"no-store"),
    ]
    seconds = row.after if after is None else after
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % min(60, max(1, round(seconds)))))
    if number == 401:
        headers.append((b"www-authenticate", b'Bearer realm="api"'))
    body = _Body(TYPE + code, row.title, number, code, row.retryable, detail or None)
    return Answer(number, msgspec.json.encode(body), tuple(headers))
