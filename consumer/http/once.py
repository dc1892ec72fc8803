"""One guarded route: a request with a key, from its head to the response that its key has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consumer.declare.handler import Handler
from consumer.declare.ways import Request
from consumer.entry import State
from consumer.errors import BrokerUnavailable, StoreUnavailable
from consumer.http.answer import Answer, App, Pairs, Receive, Scope, Send, http_date
from consumer.http.asked import asked
from consumer.http.body import Disconnected, fields, read_body
from consumer.http.capture import Capture
from consumer.http.fingerprint import fingerprint
from consumer.http.late import age_of
from consumer.http.policy import Policy
from consumer.http.problem import problem
from consumer.http.recorded import replay_of
from consumer.http.routing import path_of
from consumer.message import Envelope, Message
from consumer.path.desk import Desk
from consumer.path.direct import Called
from consumer.path.parts import Work
from consumer.rules import keys

__all__ = ["Once"]

_log = logging.getLogger("consumer.http")

SOURCE = "http"


@dataclass(frozen=True, slots=True, kw_only=False)
class Once:
    """Guards the requests of one route.

    Order of the checks: who asks, the key, the body's length, then the key's entry. What is refused burns no key.

    Args:
        app: what is behind the middleware.
        handler: of `declare.guarded`.
        app_name: part of the keys' identity.
        required: a request without a key is refused.
        wait, largest_body, policy, refuse_late: see `Idempotency`.
        tails: where the application's tasks are kept alive that go on after their request.
    """

    app: App
    handler: Handler
    app_name: str
    required: bool
    wait: float
    largest_body: int
    policy: Policy
    refuse_late: bool
    tails: set[asyncio.Task[None]]

    def concerns(self, scope: Scope) -> bool:
        """Whether a request is ours to answer: it has a key, or should have one."""
        return self.required or bool(fields(scope, b"idempotency-key"))

    async def serve(
        self,
        desk: Desk,
        scope: Scope,
        tenant: tuple[Scope, Callable[[Request], Any]],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer one request.

        Args:
            desk: where calls go.
            scope: as the application gets it.
            tenant: the scope that `tenant=` sees, and `tenant=`.
            receive, send: as the server hands them in.

        Raises:
            Exception: what the application has raised; its own error handling, and the server's, shall see it.
        """
        route = self.handler.name.partition(" ")[2]
        with desk.tracing.request(scope["method"], route, scope["headers"]) as span:
            work = await self._work(desk, scope, tenant, receive)
            if work is None:
                return
            if isinstance(work, Answer):
                status = await self._send(desk, work, send)
            else:
                status = await self._answered(desk, work, send)
            span.ended(str(status), failed=status >= 500)
        if isinstance(work, Work):
            await _rest_of(work.envelope.payload)

    async def _answered(self, desk: Desk, work: Work, send: Send) -> int:
        """Run, wait or replay; send what comes of it, and return its status."""
        capture: Capture = work.envelope.payload
        try:
            answer = await self._asked(desk, work, capture)
            if isinstance(answer, Answer):
                return await self._send(desk, answer, send)
            desk.counts[self.handler.name, str(capture.status)] += 1
            await capture.deliver(send, answer)
            return capture.status
        finally:
            capture.let_go()
            self._keep(capture)

    async def _work(
        self,
        desk: Desk,
        scope: Scope,
        tenant: tuple[Scope, Callable[[Request], Any]],
        receive: Receive,
    ) -> Work | Answer | None:
        """Return what to run under which key, the problem with the request, or `None`: its client has gone."""
        if desk.full:
            return problem("overloaded")
        request = await asked(tenant[0], tenant[1], self.handler.name)
        if isinstance(request, Answer):
            return request
        try:
            # Encoded bodies are the application's business: their bytes are compared as they are.
            plain = {
                **scope,
                "headers": [pair for pair in scope["headers"] if pair[0] != b"content-encoding"],
            }
            body = await read_body(plain, receive, desk.timer, self.largest_body)
        except Disconnected:
            return None
        if isinstance(body, Answer):
            return body
        work = self._keyed(desk, request, scope, body, receive)
        return await self._late(desk, request, work) or work

    def _keyed(self, desk: Desk, request: Request, scope: Scope, body: bytes, receive: Receive) -> Work:
        path, query = path_of(scope), scope.get("query_string", b"")
        key, name = request.key.encode(), self.handler.name
        # No body: nobody but the client can send it again, and people see by the key whose it was.
        told = (
            ("method", scope["method"].encode()),
            ("path", path.encode("utf-8", "replace")),
            ("query", query),
        )
        message = Message(name, None, desk.tracing.carried(told), source=SOURCE)
        envelope = Envelope(
            message,
            Capture(self.app, scope, body, receive, self.policy),
            request.tenant,
            key,
            keys.identity(self.app_name, request.tenant, name, key),
            fingerprint(scope["method"], path, query, body),
        )
        return Work(self.handler, envelope)

    async def _late(self, desk: Desk, request: Request, work: Work) -> Answer | None:
        """Refuse a key that is older than what is remembered, and is not remembered."""
        if not self.refuse_late:
            return None
        age = age_of(request.key, desk.now())
        if age is None or age <= self.handler.retention.total_seconds():
            return None
        if await desk.made_at(work) is not None:
            return None
        if not await desk.answers():
            return problem("store-unavailable")
        return problem("key-expired", "it may have been done and forgotten: find out before you send it anew")

    async def _asked(self, desk: Desk, work: Work, capture: Capture) -> Answer | Pairs:
        """Return the answer; or, where it is the application's own, the header fields to add to it."""
        try:
            called = await desk.ask(work, self.wait)
            return await self._told(desk, work, called, capture)
        except (StoreUnavailable, BrokerUnavailable) as fault:
            _log.warning("%s: %s", self.handler.name, fault)
            if capture.fault is not None:
                _log.error("%s: the application failed", self.handler.name, exc_info=capture.fault)
            return problem("store-unavailable")

    async def _told(self, desk: Desk, work: Work, called: Called, capture: Capture) -> Answer | Pairs:
        ending = called.ending
        if ending.conflict:
            return problem("payload-mismatch")
        if called.error is not None and called.error is capture.answered_with and not ending.duplicate:
            return ()  # its response is no result, and is the first caller's all the same
        match ending.state:
            case State.DONE:
                expires = await self._expires(desk, work, called)
                if ending.duplicate:
                    return replay_of(ending.result).with_headers(*expires)
                return expires
            case State.DEAD:  # somebody has resolved it so
                return problem("rejected", ending.reason or "").with_headers(
                    *await self._expires(desk, work, called), (b"idempotent-replayed", b"true")
                )
            case State.IN_DOUBT:
                if capture.fault is not None and not ending.duplicate:
                    raise capture.fault
                return problem(
                    "outcome-unknown", "somebody has to find out; do not send it under another key"
                )
            case State.ABSENT:
                return problem("store-unavailable" if called.error is not None else "in-progress")
            case _:
                return problem("in-progress")

    async def _expires(self, desk: Desk, work: Work, called: Called) -> Pairs:
        made = called.created_at if called.created_at is not None else await desk.made_at(work)
        if made is None:
            return ()
        until = made + self.handler.retention.total_seconds()
        return ((b"idempotency-key-expires", http_date(until)),)

    async def _send(self, desk: Desk, answer: Answer, send: Send) -> int:
        desk.counts[self.handler.name, str(answer.status)] += 1
        await answer.send(send)
        return answer.status

    def _keep(self, capture: Capture) -> None:
        """Keep the application's task alive where its client has gone."""
        task = capture.task
        if task is not None and not task.done():
            self.tails.add(task)
            task.add_done_callback(self.tails.discard)


async def _rest_of(capture: Capture) -> None:
    """Wait for what the application does after its response: background tasks, the rest of a stream."""
    task = capture.task
    if task is None:
        return
    await asyncio.wait({task})  # a cancelled request does not cancel it
    fault = None if task.cancelled() else task.exception()
    if fault is not None and fault is not capture.fault:
        raise fault
