"""What travels on the topics. Money is an integer in minor units."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = [
    "Account",
    "Amount",
    "Currency",
    "Line",
    "Notification",
    "Order",
    "Payment",
    "Placed",
    "Receipt",
    "ReceiptRequest",
    "Settled",
]

Id = Annotated[str, Meta(pattern=r"^[^\x00]*$")]
"""Any text that Postgres can store; the key rule bounds its length."""

Account = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
Amount = Annotated[int, Meta(ge=1, le=10**12)]
Currency = Annotated[str, Meta(max_length=3, pattern=r"^[A-Za-z]{3}$")]
"""The length is given beside the pattern, whose `$` lets a line end follow."""

Quantity = Annotated[int, Meta(ge=1, le=10**6)]


class Payment(Struct, forbid_unknown_fields=True):
    """`payments.requested`. The currency is upper-cased before anything compares it."""

    payment_id: Id
    account: Account
    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        self.currency = self.currency.upper()


class Settled(Struct, forbid_unknown_fields=True):
    """`payments.settled`."""

    payment_id: Id
    account: Account
    amount: Amount
    currency: Currency
    settled_at: str


class Line(Struct, forbid_unknown_fields=True):
    """One line of an order."""

    sku: Id
    qty: Quantity


class Order(Struct, forbid_unknown_fields=True):
    """`orders.placed`."""

    order_id: Id
    account: Account
    amount: Amount
    currency: Currency
    lines: list[Line]

    def __post_init__(self) -> None:
        self.currency = self.currency.upper()


class Notification(Struct, forbid_unknown_fields=True):
    """`notifications.send`."""

    notification_id: Id
    to: str
    text: str


class ReceiptRequest(Struct, forbid_unknown_fields=True):
    """`receipts.send`: fails `fail_times` times before it succeeds."""

    receipt_id: Id
    payment_id: Id
    fail_times: int = 0


class Receipt(Struct):
    """What a caller is told of a payment."""

    payment_id: str
    status: str
    account: str
    amount: int
    currency: str


class Placed(Struct):
    """What a caller is told of an order."""

    order_id: str
    status: str
    payment_id: str
