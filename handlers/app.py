"""The whole reference application; it needs an SQL store, because its payments are Transactional."""

from __future__ import annotations

from consumer import App, Secret
from consumer.webhooks import StandardWebhooks, Stripe
from handlers import notify, payments, web

__all__ = ["app"]

app = App("shop", payments.handlers, notify.handlers)
app.schema(postgres=payments.POSTGRES, sqlite=payments.SQLITE)

app.endpoint(
    "POST",
    "/payments",
    payments.take_payment,
    translate=web.new_payment,
    tenant=web.tenant,
    status=201,
    headers=["X-Tenant"],
)
app.endpoint(
    "POST",
    "/orders",
    payments.place_order,
    translate=web.new_order,
    tenant=web.tenant,
    status=201,
    headers=["X-Tenant"],
)
app.route("GET", "/payments/{payment_id:path}", web.show_payment)

app.webhook(
    "/hooks/stripe",
    Stripe(secret=Secret.env("STRIPE_WEBHOOK_SECRET")),
    topic="payments.requested",
    translate=web.from_stripe,
    tenant=web.header_tenant,
)
app.webhook(
    "/hooks/standard",
    StandardWebhooks(secret=Secret.env("STANDARD_WEBHOOK_SECRET")),
    topic="payments.requested",
    translate=web.from_standard,
    tenant=web.header_tenant,
)
