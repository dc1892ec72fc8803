"""Webhook requests as their providers send them: the providers' own kits sign."""

from __future__ import annotations

import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import standardwebhooks
import stripe
import svix

from tests.http.shopkit import PAYMENT, STANDARD_SECRET, STRIPE_SECRET

__all__ = ["Pairs", "as_bytes", "intent", "requested", "standard", "stripe_signed", "svix_signed"]

Pairs = list[tuple[str, str]]


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def intent(payment_id: str | None = "p-1", event: str = "evt_1", **more: Any) -> dict[str, Any]:
    """A `payment_intent.succeeded` of Stripe's, with fields that nobody here reads."""
    metadata: dict[str, str] = {"account": "a-1", "other": "x"}
    if payment_id is not None:
        metadata["payment_id"] = payment_id
    item = {"id": "pi_1", "object": "payment_intent", "amount": 500, "currency": "eur", "metadata": metadata}
    return {
        "id": event,
        "object": "event",
        "type": "payment_intent.succeeded",
        "livemode": False,
        "data": {"object": item | more},
    }


def requested(payment_id: str = "p-1", **more: Any) -> dict[str, Any]:
    """An event as Standard Webhooks recommends them."""
    payment = {"payment_id": payment_id, **PAYMENT} | more
    return {"type": "payments.requested", "timestamp": "2026-01-01T00:00:00Z", "data": payment}


def stripe_signed(body: bytes, *, at: float | None = None, secret: str = STRIPE_SECRET) -> Pairs:
    moment = int(time.time() if at is None else at)
    try:
        signed = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=moment)
    except UnicodeDecodeError:  # the kit signs text only
        content = b"%d." % moment + body
        signed = f"t={moment},v1={hmac.new(secret.encode(), content, 'sha256').hexdigest()}"
    return [("Stripe-Signature", signed)]


def standard(
    body: bytes, *, event: str = "msg_1", at: float | None = None, secret: str = STANDARD_SECRET
) -> Pairs:
    moment = int(time.time() if at is None else at)
    signed = standardwebhooks.Webhook(secret).sign(event, datetime.fromtimestamp(moment, UTC), body.decode())
    return [("webhook-id", event), ("webhook-timestamp", str(moment)), ("webhook-signature", signed)]


def svix_signed(
    body: bytes, *, event: str = "msg_1", at: float | None = None, secret: str = STANDARD_SECRET
) -> Pairs:
    moment = int(time.time() if at is None else at)
    signed = svix.webhooks.Webhook(secret).sign(event, datetime.fromtimestamp(moment, UTC), body.decode())
    return [("svix-id", event), ("svix-timestamp", str(moment)), ("svix-signature", signed)]
