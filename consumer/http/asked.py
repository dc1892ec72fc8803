"""Who asks, and with which key: what is decided of a request before its body is read."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from consumer.declare.names import checked_tenant
from consumer.declare.ways import BadRequest, Fields, Request, Unauthenticated
from consumer.http.answer import Answer, Scope
from consumer.http.body import fields
from consumer.http.key import KeyMalformed, KeyMissing, key_of
from consumer.http.problem import problem
from consumer.rules.keys import BadKey

__all__ = ["asked", "refused", "request_of", "tenant_of"]

_log = logging.getLogger("consumer.http")


def request_of(scope: Scope) -> Request:
    """Return a request as the application's functions see it, without key and tenant."""
    return Request(
        scope["method"],
        scope["path"],
        Fields(scope["headers"]),
        scope.get("query_string", b""),
        scope.get("path_params", {}),
    )


async def asked(scope: Scope, tenant: Callable[[Request], Any], where: str) -> Request | Answer:
    """Return the request with its tenant and its key, or the problem with one of them.

    Args:
        scope: of the request.
        tenant: the application's function.
        where: for the log.
    """
    request = await tenant_of(request_of(scope), tenant, where)
    if isinstance(request, Answer):
        return request
    try:
        key = key_of(fields(scope, b"idempotency-key"))
    except KeyMissing:
        return problem(
            "key-missing", "send a header Idempotency-Key with a value of your own, once an operation"
        )
    except KeyMalformed as fault:
        return problem("key-malformed", str(fault))
    return _known(request, request.tenant, key)


async def tenant_of(request: Request, tenant: Callable[[Request], Any], where: str) -> Request | Answer:
    """Ask the application whose request this is."""
    try:
        found = tenant(request)
        if not isinstance(found, str) and inspect.isawaitable(found):
            found = await found
        if found is None or found == "":
            return problem("unauthenticated")  # never a key space that all strangers would share
        return _known(request, checked_tenant(found), request.key)
    except BadKey as fault:
        return problem("invalid-tenant", str(fault))
    except Exception as fault:  # noqa: BLE001 - an application's function may raise anything
        return refused(where, fault)


def _known(request: Request, tenant: str, key: str) -> Request:
    """As `dataclasses.replace`, which costs several times what it does."""
    return Request(
        request.method, request.path, request.headers, request.raw_query, request.path_params, key, tenant
    )


def refused(where: str, fault: Exception) -> Answer:
    """Return the answer to a request at which an application's own `tenant=` or `translate=` has raised."""
    if isinstance(fault, Unauthenticated):
        return problem("unauthenticated", str(fault))
    if isinstance(fault, BadRequest):
        return problem(fault.code, fault.detail)
    _log.error("%s: an application's function failed", where, exc_info=fault)
    return problem("failed")
