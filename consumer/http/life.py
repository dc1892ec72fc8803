"""The lifespan of an application behind the middleware: the app is opened before it starts, and drained before it stops."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from consumer.http.answer import App, Message, Receive, Scope, Send

__all__ = ["Lifespan"]

_log = logging.getLogger("consumer.http")


class Lifespan:
    """Serves one lifespan. What was started ends while the application still has what it needs (its own connections).

    Args:
        app: what is behind the middleware; it may know nothing of lifespans.
        start, stop: of the opened app. `stop` is called once for every `start` that has returned.
    """

    def __init__(
        self, app: App, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._start = start
        self._stop = stop
        self._started = False
        self._refused: Exception | None = None
        self._answered = False
        self._leaving = False
        self._ended = False

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI.

        Raises:
            Exception: what has kept the app from being opened, or the application from starting; the server was told.
        """

        async def asked() -> Message:
            message = await receive()
            await self._on(message)
            return message

        async def told(message: Message) -> None:
            if message["type"].startswith("lifespan.startup."):
                self._answered = True
            if message["type"] == "lifespan.startup.failed":
                await self._close()
            if message["type"].startswith("lifespan.shutdown.") or message["type"].endswith(".failed"):
                self._ended = True
            await send(message)

        try:
            await self._app(scope, asked, told)
        except BaseException as fault:
            if self._refused is not None:
                await send({"type": "lifespan.startup.failed", "message": _text(self._refused)})
                raise self._refused from None
            if self._answered or not isinstance(fault, Exception):
                await self._close()
                raise
            _log.info("the application behind Idempotency has no lifespan (%s)", _text(fault))
        if not self._ended:
            await self._alone(receive, send)

    async def _alone(self, receive: Receive, send: Send) -> None:
        """Go on for an application that does not take part."""
        if not self._started and not self._leaving:
            await receive()
            try:
                await self._start()
            except Exception as fault:
                await send({"type": "lifespan.startup.failed", "message": _text(fault)})
                raise
            self._started = True
        if not self._answered:
            await send({"type": "lifespan.startup.complete"})
        if not self._leaving:
            await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _on(self, message: Message) -> None:
        if message["type"] == "lifespan.startup":
            try:
                await self._start()
            except Exception as fault:
                self._refused = fault
                raise
            self._started = True
        elif message["type"] == "lifespan.shutdown":
            self._leaving = True
            await self._close()

    async def _close(self) -> None:
        if self._started:
            self._started = False
            await self._stop()


def _text(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}"
