"""Webhooks, the pure side: who sends them, and whether a request is theirs.

    from consumer.webhooks import Stripe
    provider = Stripe(secret=Secret.env("STRIPE_WEBHOOK_SECRET"))
    verdict = receive(provider, Request(body=…, headers=…), now)

Providers are rows of one table (`consumer.webhooks.table`); code stands beside it only where a row cannot say it.
"""

from __future__ import annotations

from consumer.webhooks.cloudevents import CloudEvents
from consumer.webhooks.configured import Hmac
from consumer.webhooks.discord import Discord
from consumer.webhooks.gitlab import GitLab
from consumer.webhooks.makers import ByUrl, Maker
from consumer.webhooks.meta import Meta
from consumer.webhooks.rotation import Until
from consumer.webhooks.slack import challenge
from consumer.webhooks.table import BY_NAME
from consumer.webhooks.twilio import Twilio
from consumer.webhooks.values import Item, Provider, Reason, Refused, Reply, Request, Verified, receive
from consumer.webhooks.zoom import validation

__all__ = [
    "Bitbucket",
    "CloudEvents",
    "Discord",
    "GitHub",
    "GitLab",
    "Hmac",
    "HubSpot",
    "Intercom",
    "Item",
    "Linear",
    "Mailgun",
    "Meta",
    "Paddle",
    "Provider",
    "Reason",
    "Refused",
    "Reply",
    "Request",
    "Shopify",
    "Slack",
    "Square",
    "StandardWebhooks",
    "Stripe",
    "Svix",
    "Twilio",
    "Until",
    "Verified",
    "Zoom",
    "receive",
]

Bitbucket = Maker(BY_NAME["bitbucket"])
GitHub = Maker(BY_NAME["github"])
HubSpot = ByUrl(BY_NAME["hubspot"])
Intercom = Maker(BY_NAME["intercom"])
Linear = Maker(BY_NAME["linear"])
Mailgun = Maker(BY_NAME["mailgun"])
Paddle = Maker(BY_NAME["paddle"])
Shopify = Maker(BY_NAME["shopify"])
Slack = Maker(BY_NAME["slack"], challenge)
Square = ByUrl(BY_NAME["square"])
StandardWebhooks = Maker(BY_NAME["standard"])
Stripe = Maker(BY_NAME["stripe"])
Svix = Maker(BY_NAME["svix"])
Zoom = Maker(BY_NAME["zoom"], validation)
