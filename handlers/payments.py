"""Payments and orders: Transactional, in the database that the ledger is in. The ledger has no unique constraint."""

from __future__ import annotations

from datetime import UTC, datetime

from consumer import Context, Handlers, Key, Reject, Transactional, Tx
from handlers.models import Order, Payment, Placed, Receipt, Settled

__all__ = ["LONGEST_ORDER", "ORDERS_OWN", "POSTGRES", "SQLITE", "handlers", "place_order", "take_payment"]

ORDERS_OWN = "order-"
"""What the id of an order's payment begins with."""

LONGEST_ORDER = 255 - len(ORDERS_OWN)
"""Bytes of an order's id: its payment's id is longer, and must still be a key."""

handlers = Handlers()

POSTGRES = (
    """create table if not exists ledger (
        tenant text not null, payment_id text not null, account text not null, amount bigint not null,
        currency text not null, source text not null, created_at timestamptz not null default now())""",
    "create index if not exists ledger_payment on ledger (tenant, payment_id)",
    """create table if not exists orders (
        tenant text not null, order_id text not null, account text not null, amount bigint not null)""",
)

SQLITE = (
    """create table if not exists ledger (
        tenant text not null, payment_id text not null, account text not null, amount integer not null,
        currency text not null, source text not null,
        created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')))""",
    "create index if not exists ledger_payment on ledger (tenant, payment_id)",
    """create table if not exists orders (
        tenant text not null, order_id text not null, account text not null, amount integer not null)""",
)


@handlers.on(
    "payments.requested",
    key=Key.field("payment_id"),
    mode=Transactional(),
    tenant=Key.header("tenant"),
    same=("account", "amount", "currency"),
)
async def take_payment(payment: Payment, ctx: Context, tx: Tx) -> Receipt:
    """Write one row into the ledger, and say so."""
    if payment.account == "blocked":
        raise Reject("account blocked")
    tx.write(
        "insert into ledger (tenant, payment_id, account, amount, currency, source) values ($1, $2, $3, $4, $5, $6)",
        ctx.tenant,
        payment.payment_id,
        payment.account,
        payment.amount,
        payment.currency,
        ctx.message.source,
    )
    ctx.publish(
        "payments.settled",
        Settled(
            payment.payment_id,
            payment.account,
            payment.amount,
            payment.currency,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        ),
        ordering_key=payment.account,
    )
    return Receipt(payment.payment_id, "settled", payment.account, payment.amount, payment.currency)


@handlers.on(
    "orders.placed",
    key=Key.field("order_id"),
    mode=Transactional(),
    tenant=Key.header("tenant"),
    same=("account", "amount", "currency", "lines"),
)
async def place_order(order: Order, ctx: Context, tx: Tx) -> Placed:
    """Write the order, and request its payment in the same commit."""
    if len(order.order_id.encode()) > LONGEST_ORDER:
        raise Reject(f"order_id: {len(order.order_id.encode())} bytes; at most {LONGEST_ORDER} are allowed")
    tx.write(
        "insert into orders (tenant, order_id, account, amount) values ($1, $2, $3, $4)",
        ctx.tenant,
        order.order_id,
        order.account,
        order.amount,
    )
    payment_id = ORDERS_OWN + order.order_id
    ctx.publish(
        "payments.requested",
        Payment(payment_id, order.account, order.amount, order.currency),
        ordering_key=order.account,
    )
    return Placed(order.order_id, "placed", payment_id)
