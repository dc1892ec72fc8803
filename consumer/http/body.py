"""Reading a request's body under limits: its length is counted while it arrives, its encoding is refused, its time is bounded."""

from __future__ import annotations

import asyncio

from consumer.http.answer import Answer, Receive, Scope
from consumer.http.problem import problem
from consumer.path.timer import Timer
from consumer.rules.decode import LONGEST_BODY

__all__ = ["BODY_TIME", "Disconnected", "fields", "read_body"]

BODY_TIME = 30.0
"""Seconds from the head to the end of the body, unless the server says another time in the scope (`consumer.body_time`)."""

LONGEST_NUMBER = 18
"""Digits of a Content-Length that is read as a number."""


class Disconnected(Exception):
    """The client has gone before its request was whole: nobody is left to be answered."""


def fields(scope: Scope, name: bytes) -> list[bytes]:
    """Return the values of a header field (its name in lower case), in order."""
    return [value for known, value in scope["headers"] if known == name]


async def read_body(
    scope: Scope, receive: Receive, timer: Timer, limit: int = LONGEST_BODY
) -> bytes | Answer:
    """Return the whole body, or the problem that says why it was not read.

    Args:
        scope: of the request.
        receive: as ASGI hands it in.
        timer: of this process.
        limit: bytes.

    Raises:
        Disconnected: the client has gone.
    """
    refused = _head_fault(scope, limit)
    if refused is not None:
        return refused
    chunks: list[bytes] = []
    size = 0
    patience = float(scope.get("consumer.body_time", BODY_TIME))
    task = asyncio.current_task()
    assert task is not None, "ASGI applications run in tasks"  # noqa: S101
    try:
        with timer.limit(task, patience):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    return problem("too-large", f"at most {limit} bytes are read")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        return problem("body-timeout", f"it must be whole {patience:g} s after its head")


def _head_fault(scope: Scope, limit: int) -> Answer | None:
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            return problem("encoding", "send the body as it is, uncompressed")
        if name == b"content-length":
            length = value.strip()
            if not (length.isdigit() and len(length) <= LONGEST_NUMBER):
                return problem("invalid-request", "Content-Length is no number")
            if int(length) > limit:
                return problem("too-large", f"at most {limit} bytes are read")
    return None
