"""HTTP as a way in: endpoints that run handlers, webhooks that land, a middleware for routes that have no handler.

`App.asgi()` puts the first two together; `Idempotency` wraps an application of your own. Nothing here imports Starlette
before it serves.
"""

from __future__ import annotations

from consumer.declare.ways import BadRequest, Fields, Request, Unauthenticated, single_tenant
from consumer.http.documented import documented
from consumer.http.middleware import Idempotency
from consumer.http.openapi import idempotent
from consumer.http.policy import Policy

__all__ = [
    "BadRequest",
    "Fields",
    "Idempotency",
    "Policy",
    "Request",
    "Unauthenticated",
    "documented",
    "idempotent",
    "single_tenant",
]
