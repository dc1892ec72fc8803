"""HTTP and webhooks of the reference application: what arrives, and the payload that it means."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from consumer import Reject
from consumer.http import BadRequest, Fields, Request
from handlers.models import Account, Amount, Currency, Line, Order, Payment
from handlers.payments import LONGEST_ORDER, ORDERS_OWN

__all__ = [
    "from_standard",
    "from_stripe",
    "header_tenant",
    "new_order",
    "new_payment",
    "show_payment",
    "tenant",
]

LONGEST_TENANT = 64


class NewPayment(Struct, forbid_unknown_fields=True):
    """`POST /payments`: the payment's id is the key in the header."""

    account: Account
    amount: Amount
    currency: Currency


class NewOrder(Struct, forbid_unknown_fields=True):
    """`POST /orders`: the order's id is the key in the header."""

    account: Account
    amount: Amount
    currency: Currency
    lines: list[Line]


class Intent(Struct):
    """What Stripe's `payment_intent.succeeded` is about."""

    amount: Amount
    currency: Currency
    metadata: dict[str, str] | None = None


class StripeData(Struct):
    """`data` of such an event."""

    object: Intent


class StripeEvent(Struct):
    """Any event of Stripe's: what `data` holds depends on its type."""

    id: str
    type: str
    data: Raw = Raw(b"null")


class StandardEvent(Struct):
    """Any event as Standard Webhooks recommends them."""

    type: str
    data: Raw = Raw(b"null")


def tenant(request: Request) -> str:
    """Take the tenant from X-Tenant. In this application only: whoever has real tenants knows them from a credential."""
    return request.headers.get("x-tenant") or "public"


def header_tenant(request: Request) -> str:
    """Take a webhook's tenant from the header `tenant`, which whoever stands before this application must set."""
    return request.headers.get("tenant") or "public"


def new_payment(body: NewPayment, request: Request) -> Payment:
    """Translate `POST /payments`."""
    _refuse_orders_own(request.key)
    return Payment(request.key, body.account, body.amount, body.currency)


def new_order(body: NewOrder, request: Request) -> Order:
    """Translate `POST /orders`."""
    if len(request.key) > LONGEST_ORDER:  # a key is ASCII
        raise BadRequest(f"an order's key has at most {LONGEST_ORDER} characters", code="key-malformed")
    return Order(request.key, body.account, body.amount, body.currency, body.lines)


def from_stripe(event: StripeEvent) -> Payment | None:
    """Translate Stripe's events; all but one type mean nothing here."""
    if event.type != "payment_intent.succeeded":
        return None
    intent = msgspec.json.decode(event.data, type=StripeData).object
    metadata = intent.metadata or {}
    payment_id = metadata.get("payment_id") or event.id
    _refuse_orders_own(payment_id)
    return Payment(payment_id, metadata.get("account") or "stripe", intent.amount, intent.currency)


def from_standard(event: StandardEvent) -> Payment | None:
    """Translate Standard Webhooks."""
    if event.type != "payments.requested":
        return None
    payment = msgspec.json.decode(event.data, type=Payment)
    _refuse_orders_own(payment.payment_id)
    return payment


async def show_payment(request: Any) -> Any:
    """Answer `GET /payments/{payment_id}` from the ledger."""
    from starlette.exceptions import HTTPException  # noqa: PLC0415 - workers do without Starlette
    from starlette.responses import JSONResponse  # noqa: PLC0415

    payment_id = request.path_params["payment_id"]
    found = (
        () if "\x00" in payment_id else await request.state.running.fetch(_SHOWN, _asker(request), payment_id)
    )
    if not found:
        raise HTTPException(404)
    account, amount, currency, source = found[0]
    payment = {"payment_id": payment_id, "status": "settled", "account": account}
    return JSONResponse({**payment, "amount": amount, "currency": currency, "source": source})


_SHOWN = "select account, amount, currency, source from ledger where tenant = $1 and payment_id = $2"


def _asker(request: Any) -> str:
    """Take the tenant of a plain route, which nobody checks for us."""
    asker = Fields(request.headers.raw).get("x-tenant") or "public"
    if len(asker) > LONGEST_TENANT or not asker.isascii() or not asker.isprintable():
        raise BadRequest(
            f"X-Tenant has 1 to {LONGEST_TENANT} printable ASCII characters", code="invalid-tenant"
        )
    return asker


def _refuse_orders_own(payment_id: str) -> None:
    if payment_id.startswith(ORDERS_OWN):
        raise Reject(f"payment ids that start with {ORDERS_OWN!r} belong to orders")
