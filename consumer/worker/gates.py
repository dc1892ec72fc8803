"""Between a webhook's ASGI side and its provider: neither knows the other."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter

from consumer.declare.ways import Webhook
from consumer.errors import SettingsError
from consumer.http.answer import Answer, Scope
from consumer.http.hooks import Authentic, Denied, Event, Gate
from consumer.message import Headers
from consumer.webhooks import Item, Provider, Refused, Reply, Request, Verified, receive

__all__ = ["gate_of"]

_log = logging.getLogger("consumer.webhooks")

SAID_EVERY = 1.0
"""Seconds between two lines of one webhook about one class of reason: anybody may send a flood of forged requests."""


def gate_of(webhook: Webhook) -> Gate:
    """Return what decides whether a request of `webhook` is its provider's.

    One webhook without its secret must not stop everything else: it answers 503, so that its sender comes again.
    """
    provider: Provider = webhook.provider
    try:
        provider.check()
    except SettingsError as fault:
        _log.error("webhook %s answers 503: %s", webhook.path, fault)

    said = _Said(webhook.path)

    def gate(scope: Scope, body: bytes, now: float) -> Authentic | Denied | Answer:
        request = Request(
            scope["method"], scope["path"], scope.get("query_string", b""), tuple(scope["headers"]), body
        )
        verdict = receive(provider, request, now)
        match verdict:
            case Refused():
                said.say(f"{verdict.status} {verdict.reason.value}", verdict.text, now)
                answer = Answer(verdict.status, b"", ((b"cache-control", b"no-store"),))
                return Denied(answer, verdict.reason.value)
            case Reply():
                return Answer(verdict.status, verdict.body, verdict.headers)
            case Verified():
                if verdict.remark is not None:
                    said.say("authentic", verdict.remark, now)
                events = tuple(_event(item, verdict) for item in verdict.items)
                return Authentic(events, provider.accepted, verdict.secret_index)

    return gate


class _Said:
    """What a provider says about requests, for the log: at most one line a second for each class, with the number left out.

    Args:
        path: of the webhook.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._last: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def say(self, what: str, text: str, now: float) -> None:
        """Log `text`, or count it; `now`: seconds since 1970, which may go back."""
        if abs(now - self._last.get(what, float("-inf"))) < SAID_EVERY:
            self._left_out[what] += 1
            return
        self._last[what] = now
        left_out = self._left_out.pop(what, 0)
        more = f" (and {left_out} like it before)" if left_out else ""
        _log.info("webhook %s: %s: %s%s", self._path, what, text, more)


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
