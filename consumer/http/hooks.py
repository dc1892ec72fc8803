"""Webhooks over ASGI: verify on raw bytes, translate, land durably, only then 2xx."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from consumer.declare.handler import Handler
from consumer.declare.keyrules import HeaderRule
from consumer.declare.ways import Request, Webhook
from consumer.entry import Landed, Landing, State
from consumer.errors import BrokerUnavailable, Reject, SettingsError, StoreUnavailable
from consumer.http.answer import Answer, Receive, Scope, Send
from consumer.http.asked import refused as refused_by
from consumer.http.asked import request_of, tenant_of
from consumer.http.body import Disconnected, read_body
from consumer.http.problem import problem
from consumer.message import Headers, Message
from consumer.path.desk import Desk
from consumer.path.forward import Leaving, leaving_of
from consumer.path.keying import Unkeyed, born_dead, landing_of
from consumer.rules import decode

__all__ = ["Authentic", "Denied", "Event", "Gate", "WebhookApp"]

_log = logging.getLogger("consumer.webhooks")


class Event(msgspec.Struct, frozen=True):
    """One event of an authentic request.

    Attributes:
        key: names it, and is signed: the provider's id where the signature covers it, else a digest of what is signed.
        value: its raw bytes.
        headers: kept beside it.
    """

    key: str
    value: bytes
    headers: Headers = ()


class Authentic(msgspec.Struct, frozen=True):
    """An authentic request: its events, the status that says "stored", and which of the provider's secrets matched."""

    events: tuple[Event, ...]
    accepted: int
    secret: int = 0


class Denied(msgspec.Struct, frozen=True):
    """A request that is not its provider's: what is answered, and the class of the reason, for metrics."""

    answer: Answer
    reason: str


Gate = Callable[[Scope, bytes, float], Authentic | Denied | Answer]
"""Decides whether a request is its provider's, on its raw bytes: (scope, body, now). An `Answer` is sent as it is, and
nothing is stored; `Denied` too. Raises `SettingsError` where a secret has gone."""


@dataclass(frozen=True, slots=True)
class WebhookApp:
    """The ASGI application of one webhook.

    Args:
        webhook: as declared.
        source: the provider's name.
        gate: its verification.
    """

    webhook: Webhook
    source: str
    gate: Gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see ASGI."""
        desk: Desk = scope["consumer.desk"]
        with desk.tracing.request(scope["method"], self.webhook.path, scope["headers"]) as span:
            try:
                answer, outcome = await self._answer(desk, scope, receive)
            except Disconnected:
                return
            span.ended(str(answer.status), failed=answer.status >= 500)
        desk.results[self.source, outcome] += 1
        await answer.send(send)

    async def _answer(self, desk: Desk, scope: Scope, receive: Receive) -> tuple[Answer, str]:
        if desk.full or not desk.ready:
            return problem("overloaded" if desk.full else "store-unavailable"), "unavailable"
        body = await read_body(scope, receive, desk.timer)
        if isinstance(body, Answer):
            return body, "unread"
        try:
            verdict = self.gate(scope, body, desk.now())
        except SettingsError as fault:
            _log.error("%s: %s", self.webhook.path, fault)
            return problem("secret-missing"), "unavailable"
        if isinstance(verdict, Denied):
            return verdict.answer, verdict.reason
        if isinstance(verdict, Answer):
            return verdict, "refused" if verdict.status >= 400 else "ignored"
        desk.secrets[self.source, str(verdict.secret)] += 1
        request = request_of(scope)
        if self.webhook.tenant is not None:
            asked = await tenant_of(request, self.webhook.tenant, self.webhook.path)
            if isinstance(asked, Answer):
                return asked, "refused"
            request = asked
        try:
            landings = [
                landing
                for event in verdict.events
                for landing in self._landings(desk, event, request, alone=len(verdict.events) == 1)
            ]
        except Reject as refusal:
            return problem("rejected", refusal.reason), "rejected"
        except Exception as fault:  # noqa: BLE001 - an application's function may raise anything
            return refused_by(self.webhook.path, fault), "failed"
        return await self._landed(desk, landings, verdict.accepted)

    async def _landed(
        self, desk: Desk, made: Sequence[Landing | Leaving], accepted: int
    ) -> tuple[Answer, str]:
        """Make durable what the events have become, in the store and on the broker; only then is it acknowledged."""
        leaving = [one for one in made if isinstance(one, Leaving)]
        landings = [one for one in made if isinstance(one, Landing)]
        if not made:
            return Answer(accepted), "ignored"
        try:
            dead = await desk.forward(leaving) if leaving else []
            landed = await desk.land([*landings, *dead])
        except BrokerUnavailable as fault:
            _log.debug("%s: %s", self.webhook.path, fault)  # the forwarder has said it once for all
            return problem("broker-unavailable"), "unavailable"
        except StoreUnavailable as fault:
            _log.warning("%s: %s", self.webhook.path, fault)
            return problem("store-unavailable"), "unavailable"
        if leaving and not dead:
            return Answer(accepted), "forwarded"
        if Landed.CONFLICT in landed:
            return Answer(accepted), "conflict"
        if all(one is Landed.DUPLICATE for one in landed):
            return Answer(accepted), "duplicate"
        return Answer(accepted), "landed"

    def _landings(
        self, desk: Desk, event: Event, request: Request, *, alone: bool
    ) -> Sequence[Landing | Leaving]:
        """Return the entries that an event becomes, one a handler of the topic; none where it means nothing here.

        Where the topic lives on a broker that webhooks go to, it is one message. What no handler can key stays with us: its
        dead letter would only be made later.
        """
        handlers = desk.subscribers(self.webhook.topic)
        payload, reason = self._translated(event, replace(request, key=event.key), alone=alone)
        if reason is not None:
            # Authentic, so the sender must not send it for ever; but nobody can run it: a dead letter, with its bytes.
            return [
                _dead(
                    desk.app,
                    handler,
                    self._message(desk, event, event.value, handler, request),
                    reason,
                    request.tenant,
                )
                for handler in handlers
            ]
        if payload is None:
            return []
        value = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        messages = [self._message(desk, event, value, handler, request) for handler in handlers]
        landings = [self._landing(desk, *pair) for pair in zip(handlers, messages, strict=True)]
        made = zip(handlers, messages, landings, strict=True)
        keyed = [each for each in made if each[2].state is not State.DEAD]
        if not keyed or not desk.forwards(self.webhook.topic):
            return landings
        return [leaving_of(desk.app, event.key, keyed, source=self.source)]

    def _landing(self, desk: Desk, handler: Handler, message: Message) -> Landing:
        envelope = desk.envelope(handler, message)
        if isinstance(envelope, Unkeyed):
            return born_dead(desk.app, handler, message, envelope)
        return landing_of(desk.app, handler, envelope)

    def _translated(self, event: Event, request: Request, *, alone: bool) -> tuple[Any, str | None]:
        """Return the payload (`None`: nothing lands), and why it could not be made.

        Raises:
            Reject: the translation refuses the only event of a request. Of several, one must not cost the others.
        """
        translation = self.webhook.translation
        try:
            body: Any = event.value
            body = decode.decode(body, translation.decoder) if translation.decoder else decode.body(body)
            return translation(body, request), None
        except decode.Undecodable as fault:
            return None, fault.reason
        except Reject as refusal:
            if alone:
                raise
            return None, f"rejected: {refusal.reason}"
        except (msgspec.MsgspecError, ValueError) as fault:
            return None, decode.mistranslated(fault)

    def _message(self, desk: Desk, event: Event, value: bytes, handler: Handler, request: Request) -> Message:
        headers = event.headers
        if isinstance(handler.tenant, HeaderRule) and request.tenant not in {"", "public"}:
            headers = (*headers, (handler.tenant.name, request.tenant.encode()))
        return Message(self.webhook.topic, value, desk.tracing.carried(headers), source=self.source)


def _dead(app: str, handler: Handler, message: Message, reason: str, tenant: str) -> Landing:
    return born_dead(app, handler, message, Unkeyed("decode", reason, tenant or None))
