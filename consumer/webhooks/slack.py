"""Slack's signed handshake: echo the challenge of `url_verification`."""

from __future__ import annotations

import msgspec

from consumer.webhooks.signers import Signer
from consumer.webhooks.values import Reply, Request

__all__ = ["challenge"]

LONGEST_CHALLENGE = 1024


class _Verification(msgspec.Struct, tag_field="type", tag="url_verification"):
    challenge: str


def challenge(request: Request, by: Signer) -> Reply | None:  # noqa: ARG001 - of all answers one signature
    """Return the echo, `None` for every other body.

    Args:
        request: authentic.
        by: not needed.
    """
    try:
        asked = _decode(request.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if len(asked.challenge) > LONGEST_CHALLENGE:
        return None
    return Reply(200, asked.challenge.encode(), ((b"content-type", b"text/plain; charset=utf-8"),))


_decode = msgspec.json.Decoder(_Verification).decode
