"""An endpoint: HTTP as a way into a handler. The response is the key's stored result, whichever way in came first."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import msgspec

from consumer.declare.keyrules import HeaderRule
from consumer.declare.ways import Endpoint, Request
from consumer.entry import State
from consumer.errors import BrokerUnavailable, GroupFault, Reject, Retry, StoreUnavailable
from consumer.http.answer import Answer, Receive, Scope, Send, http_date
from consumer.http.asked import asked, refused
from consumer.http.body import Disconnected, read_body
from consumer.http.problem import problem
from consumer.message import Message
from consumer.path.desk import Desk
from consumer.path.direct import Called
from consumer.path.keying import Unkeyed
from consumer.path.parts import Work
from consumer.rules import decode

__all__ = ["EndpointApp"]

_log = logging.getLogger("consumer.http")

SOURCE = "http"


@dataclass(frozen=True, slots=True)
class EndpointApp:
    """The ASGI application of one endpoint.

    Order of the checks: who asks, the key, the body's length and encoding, the body's form, then the key's entry. So an
    undecodable body is 400 whatever the key's state is, and a request that is refused burns no key.

    Args:
        endpoint: as declared.
    """

    endpoint: Endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see ASGI."""
        desk: Desk = scope["consumer.desk"]
        route = self.endpoint.path
        with desk.tracing.request(scope["method"], route, scope["headers"]) as span:
            try:
                answer = await self._answer(desk, scope, receive)
            except Disconnected:
                return
            span.ended(str(answer.status), failed=answer.status >= 500)
        desk.counts[self.endpoint.text, str(answer.status)] += 1
        await answer.send(send)

    async def _answer(self, desk: Desk, scope: Scope, receive: Receive) -> Answer:
        if desk.full:
            return problem("overloaded")
        request = await asked(scope, self.endpoint.tenant, self.endpoint.text)
        if isinstance(request, Answer):
            return request
        body = await read_body(scope, receive, desk.timer)
        if isinstance(body, Answer):
            return body
        work = self._work(desk, request, body)
        if isinstance(work, Answer):
            return work
        try:
            called = await desk.ask(work, self.endpoint.wait)
            return await self._told(desk, work, called)
        except (StoreUnavailable, BrokerUnavailable) as fault:
            _log.warning("%s: %s", self.endpoint.text, fault)
            return problem("store-unavailable")
        except GroupFault as fault:
            _log.error("%s: the transaction was lost: %s", self.endpoint.text, fault)
            return problem("failed")

    def _work(self, desk: Desk, request: Request, body: bytes) -> Work | Answer:
        """Decode, translate and key; the problem where that cannot be done."""
        endpoint = self.endpoint
        payload = translated(endpoint, body, request)
        if isinstance(payload, Answer):
            return payload
        handler = endpoint.handler
        message = Message(
            handler.topics[0] if handler.topics else handler.name,
            payload if isinstance(payload, bytes) else msgspec.json.encode(payload),
            desk.tracing.carried(_tenant_header(endpoint, request)),
            source=SOURCE,
        )
        envelope = desk.envelope(handler, message)
        if isinstance(envelope, Unkeyed):
            return problem("key-malformed" if envelope.kind == "key" else "invalid-body", envelope.reason)
        if envelope.tenant != request.tenant:
            raise RuntimeError(f"{endpoint.text}: the message is of tenant {envelope.tenant!r}")
        if endpoint.translation.function is None and envelope.key != request.key.encode():
            return problem("payload-mismatch", "the body names another key than Idempotency-Key does")
        return Work(handler, envelope)

    async def _told(self, desk: Desk, work: Work, called: Called) -> Answer:
        ending = called.ending
        if ending.conflict:
            return problem("payload-mismatch")
        match ending.state:
            case State.DONE | State.DEAD:
                answer = self._result(called) if ending.state is State.DONE else _rejected(work, called)
                made = called.created_at if called.created_at is not None else await desk.made_at(work)
                if made is not None:
                    until = made + work.handler.retention.total_seconds()
                    answer = answer.with_headers((b"idempotency-key-expires", http_date(until)))
                return answer.with_headers((b"idempotent-replayed", b"true")) if ending.duplicate else answer
            case State.IN_DOUBT:
                return problem(
                    "outcome-unknown", "somebody has to find out; do not send it under another key"
                )
            case State.ABSENT:
                return self._nothing_happened(called)
            case _:
                return problem("in-progress")

    def _result(self, called: Called) -> Answer:
        headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
        return Answer(self.endpoint.status, called.ending.result or b"", headers)

    def _nothing_happened(self, called: Called) -> Answer:
        error = called.error
        if isinstance(error, Retry):
            return problem("try-again", error.reason, after=error.after)
        if isinstance(error, StoreUnavailable):
            return problem("store-unavailable")
        if error is None:
            return problem("in-progress")
        _log.error("%s: the handler failed; its key is free again", self.endpoint.text, exc_info=error)
        return problem("failed")


def translated(endpoint: Endpoint, body: bytes, request: Request) -> Any:
    """Return the payload, or the problem that says why the body is none."""
    translation = endpoint.translation
    try:
        decoded = decode.decode(body, translation.decoder) if translation.decoder else decode.body(body)
        return translation(decoded, request)
    except decode.Undecodable as fault:
        return problem("invalid-body", fault.reason)
    except Reject as refusal:
        return problem("rejected", refusal.reason)
    except (msgspec.MsgspecError, ValueError) as fault:
        return problem("invalid-body", decode.mistranslated(fault))
    except Exception as fault:  # noqa: BLE001 - an application's function may raise anything
        return refused(endpoint.text, fault)


def _tenant_header(endpoint: Endpoint, request: Request) -> tuple[tuple[str, bytes], ...]:
    rule = endpoint.handler.tenant
    if not isinstance(rule, HeaderRule) or request.tenant == "public":
        return ()
    return ((rule.name, request.tenant.encode()),)


def _rejected(work: Work, called: Called) -> Answer:
    ending = called.ending
    if ending.attempt >= work.handler.mode.retry.attempts > 1:
        # Attempts by other ways in have failed until none were left: what they raised is not for callers.
        return problem("rejected", "it has failed too often, and is a dead letter now")
    return problem("rejected", ending.reason or "")
