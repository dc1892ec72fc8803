"""A handler that nobody declares: what a route guarded by the HTTP middleware is, to the path and to the store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from consumer.declare.complaints import where_of
from consumer.declare.handler import Handler
from consumer.declare.keyrules import HeaderRule
from consumer.declare.names import name_fault
from consumer.declare.signature import asks_of
from consumer.errors import RegistrationError
from consumer.rules.modes import AtMostOnce

__all__ = ["guarded"]


def guarded(
    name: str, function: Callable[[Any], Coroutine[Any, Any, Any]], *, timeout: float, retention: timedelta
) -> Handler:
    """Return an at-most-once handler without topics, whose envelopes are made by its one way in.

    The mode is the only one that can be promised of code that knows nothing of keys: nobody can roll it back, and nobody
    may repeat it.

    Args:
        name: part of the identity of every key; never changes.
        function: takes what its way in puts into the envelope as the payload.
        timeout: seconds that one attempt may take.
        retention: how long its done entries are remembered.

    Raises:
        RegistrationError: the name cannot be one.
    """
    fault = name_fault(name)
    if fault is not None:
        raise RegistrationError(f"Idempotency: the route {name!r} {fault}")
    return Handler(
        name=name,
        topics=(),
        mode=AtMostOnce(),
        timeout=timeout,
        retention=retention,
        concurrency=None,
        ordered=False,
        batch=None,
        same=None,
        function=function,
        where=where_of(function),
        asks=asks_of(function, payload=True),
        key=HeaderRule("idempotency-key"),
        tenant=None,
        decoder=None,
        reconcile_asks=None,
        named=True,
        ways_in=[name],
    )
