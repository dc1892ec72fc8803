"""HTTP as a way in: endpoints that run handlers, webhooks that land, a middleware for routes that have no handler.

`App.asgi()` puts them together. Nothing here imports Starlette before it serves.
"""

from __future__ import annotations

from consumer.declare.ways import BadRequest, Fields, Request, Unauthenticated, single_tenant
from consumer.http.openapi import idempotent

__all__ = ["BadRequest", "Fields", "Request", "Unauthenticated", "idempotent", "single_tenant"]
