"""Zoom's signed handshake: `endpoint.url_validation` wants the HMAC of a token, at first and every 72 hours."""

from __future__ import annotations

from typing import Annotated

import msgspec

from consumer.webhooks.signers import HmacSigner, Signer
from consumer.webhooks.values import Reply, Request

__all__ = ["validation"]

# Whatever is signed here is signed with the key of all webhooks. Without this pattern the handshake would sign
# `v0:<time>:<body>` for who asks, and what it signed would be accepted as a webhook of Zoom's.
_Token = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_\-]{1,128}\Z")]


class _Payload(msgspec.Struct):
    plainToken: _Token  # noqa: N815 - Zoom's name


class _Validation(msgspec.Struct, tag_field="event", tag="endpoint.url_validation"):
    payload: _Payload


def validation(request: Request, by: Signer) -> Reply | None:
    """Return the token and its HMAC, `None` for every other body.

    Args:
        request: authentic.
        by: the secret that has verified it.
    """
    try:
        token = _decode(request.body).payload.plainToken
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not isinstance(by, HmacSigner):
        return None
    body = {"plainToken": token, "encryptedToken": by.sign(token.encode()).hex()}
    return Reply(200, msgspec.json.encode(body), ((b"content-type", b"application/json"),))


_decode = msgspec.json.Decoder(_Validation).decode
