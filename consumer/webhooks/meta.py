"""Meta: a body signature, and a `GET` handshake that shows a token of our own choice."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.signed import SignedProvider
from consumer.webhooks.signers import SecretForm
from consumer.webhooks.table import BY_NAME
from consumer.webhooks.values import Reason, Refused, Reply, Request

__all__ = ["Meta", "subscription"]

LONGEST_QUERY = 2048
_CHALLENGE = re.compile(r"[A-Za-z0-9_\-]{1,256}")


def subscription(request: Request, tokens: Rotation, now: float) -> Reply | Refused | None:
    """Return the answer to `hub.mode=subscribe`: the challenge, for who knows the token; `None` for all but `GET`.

    Args:
        request: as it arrived.
        tokens: what `hub.verify_token` may be.
        now: seconds since 1970, for tokens that expire.
    """
    if request.method != "GET":
        return None
    if len(request.query) > LONGEST_QUERY:
        return Refused(400, Reason.MALFORMED, f"the query is longer than {LONGEST_QUERY} bytes")
    try:
        pairs = parse_qsl(request.query.decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        return Refused(400, Reason.MALFORMED, "the query cannot be read")
    asked = dict(pairs)
    if len(asked) != len(pairs):
        return Refused(400, Reason.DUPLICATE, "the query names something twice")
    if asked.get("hub.mode") != "subscribe" or "hub.verify_token" not in asked:
        return Refused(400, Reason.MISSING, "hub.mode=subscribe or hub.verify_token is missing")
    shown = asked["hub.verify_token"].encode("utf-8", "surrogatepass")
    if not any(token.accepts(b"", [shown]) for _, token in tokens.current(now)):
        return Refused(401, Reason.MISMATCH, "hub.verify_token is not ours")
    challenge = asked.get("hub.challenge", "")
    if not _CHALLENGE.fullmatch(challenge):  # never echo markup to a browser
        return Refused(400, Reason.MALFORMED, "hub.challenge is no plain token")
    headers = ((b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff"))
    return Reply(200, challenge.encode(), headers)


def Meta(*, secret: Secrets, verify_token: Secrets, guard: bool = True) -> SignedProvider:  # noqa: N802
    """Return the provider of Meta's platforms (Facebook, Instagram, WhatsApp, Messenger).

    Args:
        secret: the app secret.
        verify_token: what was entered beside the callback URL; used by the `GET` handshake only.
        guard: tell repetitions apart by a digest of the body: there is no event id.

    Raises:
        SettingsError: there is no secret or no token.
    """
    row = BY_NAME["meta"]
    tokens = Rotation(verify_token, SecretForm.TEXT, "token")
    return SignedProvider(
        row=row,
        rotation=Rotation(secret, row.secret, row.algorithm),
        guarded=guard,
        methods=("GET", "POST"),
        tokens=tokens,
        greeting=lambda request, now: subscription(request, tokens, now),
    )
