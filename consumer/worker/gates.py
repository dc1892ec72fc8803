"""Between a webhook's ASGI side and its provider: neither knows the other."""

from __future__ import annotations

import hashlib
import logging

from consumer.declare.ways import Webhook
from consumer.errors import SettingsError
from consumer.http.answer import Answer, Scope
from consumer.http.hooks import Authentic, Denied, Event, Gate
from consumer.message import Headers
from consumer.webhooks import Item, Provider, Refused, Reply, Request, Verified, receive

__all__ = ["gate_of"]

_log = logging.getLogger("consumer.webhooks")


def gate_of(webhook: Webhook) -> Gate:
    """Return what decides whether a request of `webhook` is its provider's.

    One webhook without its secret must not stop everything else: it answers 503, so that its sender comes again.
    """
    provider: Provider = webhook.provider
    try:
        provider.check()
    except SettingsError as fault:
        _log.error("webhook %s answers 503: %s", webhook.path, fault)

    def gate(scope: Scope, body: bytes, now: float) -> Authentic | Denied | Answer:
        request = Request(
            scope["method"], scope["path"], scope.get("query_string", b""), tuple(scope["headers"]), body
        )
        verdict = receive(provider, request, now)
        match verdict:
            case Refused():
                answer = Answer(verdict.status, b"", ((b"cache-control", b"no-store"),))
                return Denied(answer, verdict.reason.value)
            case Reply():
                return Answer(verdict.status, verdict.body, verdict.headers)
            case Verified():
                events = tuple(_event(item, verdict) for item in verdict.items)
                return Authentic(events, provider.accepted, verdict.secret_index)

    return gate


_CHANGING = ("retry", "attempt", "timestamp")


def _event(item: Item, verdict: Verified) -> Event:
    """Name an event by what is signed: an id that is not never becomes a key.

    Headers that change from one delivery of an event to the next are left out: a dead letter is known again by its bytes.
    """
    headers: Headers = tuple(
        (name, value) for name, value in verdict.headers if not any(word in name for word in _CHANGING)
    )
    if item.event_id is not None and verdict.id_signed:
        headers = (*headers, ("event-id", item.event_id.encode("utf-8", "surrogateescape")))
    if item.guard is not None:
        return Event(item.guard.hex(), item.value, headers)
    return Event(item.event_id or hashlib.sha256(item.value).hexdigest(), item.value, headers)
