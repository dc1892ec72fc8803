"""One execution of an application behind the middleware: what it is asked, what it answers, and how that reaches the client.

Until the response is whole, or too large to be stored, everything is held back: nobody shall be told of a result that is not
durable yet. From then on the attempt is over, and what the application still does (a long stream, background tasks) is the
request's business, no more the key's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from consumer.errors import Retry
from consumer.http.answer import App, Message, Pairs, Receive, Scope, Send
from consumer.http.policy import Policy
from consumer.http.recorded import Recorded

__all__ = ["Capture", "Doubtful", "Unanswered", "Unstored", "run"]

_log = logging.getLogger("consumer.http")


class Unstored(Retry):
    """The application has answered with a status that says that it has not begun: the key is released."""


class Doubtful(RuntimeError):
    """The application has answered, and does not know itself what has happened: the key is in doubt."""


class Unanswered(RuntimeError):
    """The application has returned without a whole response: what it has done is not known."""


class Capture:
    """See above. Made for one request; `run` happens at most once, and not at all where the key is known.

    Args:
        app: what is behind the middleware.
        scope: of the request.
        body: all of it, read before.
        receive: as the server hands it in; asked again only once the key is settled.
        policy: see `Policy`.

    Attributes:
        task: the application's; `None` while it was not started.
        fault: what the application has raised before its response was whole.
        answered_with: why its response is not the key's result, although it has answered: the key is free, or in doubt.
    """

    def __init__(self, app: App, scope: Scope, body: bytes, receive: Receive, policy: Policy) -> None:
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._outer = receive
        self._policy = policy
        self._head: Message | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._large = False
        self._over = False
        self._known = asyncio.Event()
        self._gate = asyncio.Event()
        self._to: Send | None = None
        self.task: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None
        self.answered_with: Unstored | Doubtful | None = None

    async def run(self) -> Recorded:
        """Run the application until its response is known; return that as it is stored.

        Raises:
            Unstored: the status says that nothing has happened.
            Doubtful: the status says that this is not known.
            Exception: whatever the application has raised, or `Unanswered`: the outcome is not known.
        """
        self.task = asyncio.create_task(self._application(), name=f"guarded {self._scope['path']}")
        self.task.add_done_callback(lambda _: self._known.set())
        try:
            await self._known.wait()
        except asyncio.CancelledError:
            if not self._answered:
                self.task.cancel()  # the time-out: a request to stop, which the application may answer with its response
                await asyncio.wait({self.task})
            if not self._answered:
                raise
        if not self._answered:
            self.fault = _fault_of(self.task)
            raise self.fault
        status = self.status
        self.answered_with = self._no_result(self.task)
        if self.answered_with is not None:
            raise self.answered_with
        if self._large:
            return Recorded(status, stub=True)
        return Recorded.of(status, self._policy.result_headers(self._headers), b"".join(self._chunks))

    async def deliver(self, send: Send, more: Pairs = ()) -> None:
        """Send the application's own response, with all that it has sent; what is too large goes on as it comes.

        Args:
            send: as the server hands it in.
            more: header fields to add.
        """
        if self._head is None:
            raise RuntimeError("there is no response to deliver")
        await send({**self._head, "headers": [*self._headers, *more]})
        await send({"type": "http.response.body", "body": b"".join(self._chunks), "more_body": self._large})
        self._chunks.clear()
        self._to = send
        self._gate.set()

    def let_go(self) -> None:
        """Nobody waits for the response any more: what still comes of it is thrown away."""
        self._gate.set()

    @property
    def status(self) -> int:
        """The status that the application has answered."""
        return 0 if self._head is None else int(self._head["status"])

    def _no_result(self, task: asyncio.Task[None]) -> Unstored | Doubtful | None:
        status = self.status
        if not self._policy.stores(status):
            return Unstored(f"answered {status}, which says that nothing has happened")
        raised = task.exception() if task.done() and not task.cancelled() else None
        if status >= 500 and raised is not None:
            # Starlette answers 500 to an exception, and raises it again: that is no other outcome than raising alone.
            return Doubtful(f"answered {status} to {type(raised).__name__}: {raised}")
        if status in self._policy.doubtful:
            return Doubtful(f"answered {status}, which says that it is not known what has happened")
        return None

    @property
    def _answered(self) -> bool:
        return self._over or self._large

    @property
    def _headers(self) -> Pairs:
        if self._head is None:
            return ()
        return tuple((bytes(name).lower(), bytes(value)) for name, value in self._head.get("headers", ()))

    async def _application(self) -> None:
        _simplify(self._scope)
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        """Hand in the body once. A disconnect is told of only when it can stop nothing any more."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._known.wait()
        if not self._over:
            await self._gate.wait()
            if self._to is not None and not self._over:
                return await self._outer()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._over:
            return
        if message["type"] == "http.response.start":
            if self._head is not None:
                raise RuntimeError("http.response.start was sent twice")
            self._head = message
            self._large = self._policy.too_large(self._headers)
            if self._large:
                self._known.set()
        elif message["type"] == "http.response.body":
            if self._head is None:
                raise RuntimeError("http.response.body was sent before http.response.start")
            await self._take(message.get("body", b""), more=message.get("more_body", False))

    async def _take(self, chunk: bytes, *, more: bool) -> None:
        self._size += len(chunk)
        if not self._large and self._size <= self._policy.largest:
            self._chunks.append(chunk)
            if not more:
                self._over = True
                self._known.set()
            return
        self._large = True
        self._known.set()
        await self._gate.wait()
        if self._to is not None:
            try:
                await self._to({"type": "http.response.body", "body": chunk, "more_body": more})
            except Exception as fault:  # noqa: BLE001 - a server, or a middleware around us, whose client has gone
                _log.debug("%s: the rest of a response cannot be sent: %s", self._scope["path"], fault)
                self._to = None
        self._over = not more


async def run(capture: Capture) -> Recorded:
    """The function of every guarded route's handler."""
    return await capture.run()


def _simplify(scope: Scope) -> None:
    """Take the ways to answer out of a scope that pass by `send`'s two messages (trailers, files by their path, push).

    In place: what the application writes into its scope (Starlette its route), middleware around us reads there.
    """
    extensions: dict[str, Any] = scope.get("extensions") or {}
    scope["extensions"] = {
        name: value for name, value in extensions.items() if not name.startswith("http.response.")
    }


def _fault_of(task: asyncio.Task[None]) -> BaseException:
    if task.cancelled():
        return Unanswered("the application has cancelled itself")
    return task.exception() or Unanswered("the application has returned without a whole response")
