"""Discord: ed25519, and the two PINGs (webhook events: type 0, interactions: type 1)."""

from __future__ import annotations

from typing import Any

import msgspec

from consumer.webhooks.makers import checked_tolerance
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.signed import TOLERANCE, SignedProvider
from consumer.webhooks.signers import Signer
from consumer.webhooks.table import BY_NAME
from consumer.webhooks.values import Reply, Request

__all__ = ["Discord", "pong"]


class _Ping(msgspec.Struct):
    type: int
    event: Any = None


def pong(request: Request, by: Signer) -> Reply | None:  # noqa: ARG001 - of all answers one signature
    """Return the answer to a PING, `None` for every other body.

    Args:
        request: authentic.
        by: not needed.
    """
    try:
        body = _decode(request.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if body.type == 0:
        return Reply(204)
    if body.type == 1 and body.event is None:  # an event has type 1 too, and always says which
        return Reply(200, b'{"type":1}', ((b"content-type", b"application/json"),))
    return None


def Discord(*, public_key: Secrets, tolerance: float = TOLERANCE, guard: bool = True) -> SignedProvider:  # noqa: N802
    """Return the provider of Discord's webhook events. Of interactions it knows the PING only: they want an answer with content.

    Args:
        public_key: of the application, in hexadecimal; no secret, but it comes from where secrets come from.
        tolerance: seconds that a timestamp may lie off, past or future.
        guard: tell replays apart by a digest of the body: webhook events carry no id.

    Raises:
        SettingsError: there is no key, or the tolerance is none.
    """
    row = BY_NAME["discord"]
    return SignedProvider(
        row=row,
        rotation=Rotation(public_key, row.secret, row.algorithm),
        tolerance=checked_tolerance(tolerance),
        guarded=guard,
        answering=pong,
    )


_decode = msgspec.json.Decoder(_Ping).decode
