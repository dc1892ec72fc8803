"""Effects outside of any database: not transactional, so this app alone runs on every store."""

from __future__ import annotations

import asyncio

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Handlers, Key
from handlers.effects import write_effect
from handlers.models import Notification, ReceiptRequest, Settled

__all__ = ["app", "handlers"]

handlers = Handlers()


@handlers.on("payments.settled", key=Key.field("payment_id"), mode=AtMostOnce(), tenant=Key.header("tenant"))
async def tell_payer(settled: Settled, ctx: Context) -> None:
    """Tell the payer, once: better not at all than twice."""
    write_effect("payments.settled", settled.payment_id, ctx)


@handlers.on(
    "notifications.send",
    key=Key.field("notification_id"),
    mode=AtMostOnce(),
    tenant=Key.header("tenant"),
    timeout=3600,
)
async def notify(notification: Notification, ctx: Context) -> None:
    """Send a notification; the text `unknown` stands for a provider that never answers."""
    write_effect("notifications.send", notification.notification_id, ctx)
    if notification.text == "unknown":
        await asyncio.Event().wait()


@handlers.on(
    "receipts.send",
    key=Key.field("receipt_id"),
    mode=AtLeastOnce(retry=Backoff(5, first=0.1, factor=2, longest=5)),
    tenant=Key.header("tenant"),
)
async def send_receipt(receipt: ReceiptRequest, ctx: Context) -> None:
    """Send a receipt; the receiver drops repetitions by `idempotency_key`."""
    if ctx.attempt <= receipt.fail_times:
        raise ConnectionError(f"the mail server is away (attempt {ctx.attempt})")
    write_effect("receipts.send", receipt.receipt_id, ctx)


app = App("notify", handlers)
