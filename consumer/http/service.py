"""The ASGI application of an app: endpoints, webhooks, plain routes, and what an orchestrator asks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol

from consumer.errors import BrokerUnavailable, SettingsError, StoreUnavailable
from consumer.http.answer import Answer, App, Receive, Scope, Send, json_answer
from consumer.http.edge import Edge
from consumer.http.problem import problem
from consumer.path.desk import Desk

__all__ = ["Opened", "Service", "Told", "Way"]

_log = logging.getLogger("consumer.http")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds between attempts to open the store: doubled from the first to the longest."""

KNOWN_FOR = 1.0
"""Seconds for which an answer about the store is believed: probes must not become a load."""


class Opened(Protocol):
    """What the service serves: an opened app. `clean`, at its end: everything in hand had ended."""

    clean: bool

    @property
    def desk(self) -> Desk:
        """Where calls and landings go."""
        ...


Way = tuple[str, Sequence[str], Any]
"""A path (`/payments/{payment_id}`), its methods, and what answers: an ASGI application, or a function of Starlette's."""


Told = Callable[[str, Sequence[str]], tuple[int, str, bytes]]
"""What an orchestrator is told: (path, reasons known here why work cannot be taken) -> status, content type, body."""


class Service:
    """An ASGI application. It opens the app in its lifespan; where the store is away, it answers 503 until it is back.

    A server runs the lifespan by itself. Mounted in another application, which does not pass its lifespan on, the outer
    one runs it: `FastAPI(lifespan=service.lifespan)`.

    Args:
        ways: endpoints, webhooks and plain routes.
        opener: opens the app.
        described: the OpenAPI document.
        told: answers `/livez`, `/readyz`, `/startupz` and `/metrics`; `None`: only the first two, by this service alone.

    Attributes:
        clean: after the end: everything in hand had ended.
    """

    def __init__(
        self,
        ways: Sequence[Way],
        opener: Callable[[], AbstractAsyncContextManager[Opened]],
        described: Callable[[], dict[str, Any]],
        told: Told | None = None,
    ) -> None:
        self._opener = opener
        self._described = described
        self._told = told
        self._opened: Opened | None = None
        self._life: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._asked_at = -KNOWN_FOR
        self._answers = False
        self.clean = True
        self._edge = Edge(self._routed)
        self._router = _router([*ways, *self._own()])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._edge(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    @property
    def opened(self) -> Opened | None:
        """The opened app; `None` before it is and after it was."""
        return self._opened

    @asynccontextmanager
    async def lifespan(self, outer: Any = None) -> AsyncIterator[None]:  # noqa: ARG002 - Starlette passes its application
        """Open the app for as long as the block lasts; a store that is away is waited for behind its back.

        Raises:
            RegistrationError, SettingsError: it can never work like this.
        """
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Open the app; see `lifespan`."""
        self._stop = asyncio.Event()
        tried = asyncio.Event()
        self._life = asyncio.create_task(self._lead(tried), name="service")
        waiting = asyncio.create_task(tried.wait())
        await asyncio.wait({self._life, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._life.done():
            await self._life

    async def stop(self) -> None:
        """Close the app: what was started comes to its end first."""
        self._stop.set()
        life, self._life = self._life, None
        if life is not None:
            await life

    async def failed(self) -> None:
        """Wait until the app is closed; where nobody has asked for it, raise what has ended it."""
        if self._life is not None:
            await asyncio.shield(self._life)

    async def ready(self) -> bool:
        """Whether requests can be taken now: opened, alive, and the store answers."""
        desk = None if self._opened is None else self._opened.desk
        if desk is None or not desk.ready or desk.full:
            return False
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= KNOWN_FOR:
            self._answers = await desk.answers()
            self._asked_at = now
        return self._answers

    async def unready(self) -> list[str]:
        """Why requests cannot be taken now, for `Told`; empty where they can."""
        if await self.ready():
            return []
        causes = "the store does not answer, or the broker of webhooks, or there is too much to do"
        return [f"requests cannot be taken: {causes}"]

    async def _lead(self, tried: asyncio.Event) -> None:
        """Live in one task: resources must be closed by the task that has opened them."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                async with self._opener() as opened:
                    self._opened = opened
                    tried.set()
                    pause = FIRST_PAUSE
                    await self._stop.wait()
                    await opened.desk.idle()
                self.clean = opened.clean
            except SettingsError:  # also where a store refuses us: waiting tells nobody
                raise
            except (StoreUnavailable, BrokerUnavailable) as fault:
                _log.warning("not ready, trying again in %g s: %s", pause, fault)
            finally:
                self._opened = None
                tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # makes Starlette raise where it would answer in plain text
        scope["consumer.service"] = self
        if self._opened is not None:
            scope["consumer.desk"] = self._opened.desk
            scope.setdefault("state", {})["running"] = self._opened
        elif self._life is None:
            _log.error(
                "the lifespan does not run: FastAPI(lifespan=service.lifespan), or run it under a server"
            )
        await self._router(scope, receive, send)

    def _own(self) -> list[Way]:
        told = self._told
        if told is not None:
            return [*self._asked(told), ("/openapi.json", ("GET",), _Plain(self._openapi))]

        async def livez(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - see ASGI
            await json_answer(200, {"status": "alive"}).send(send)

        async def readyz(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - see ASGI
            answer = (
                json_answer(200, {"status": "ready"}) if await self.ready() else problem("store-unavailable")
            )
            await answer.send(send)

        return [
            (path, ("GET",), _Plain(app))
            for path, app in (("/livez", livez), ("/readyz", readyz), ("/openapi.json", self._openapi))
        ]

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - see ASGI
        await json_answer(200, self._described()).send(send)

    def _asked(self, told: Told) -> list[Way]:
        async def health(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - see ASGI
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            reasons = await self.unready() if path == "/readyz" else []
            status, kind, body = told(path, reasons)
            headers = ((b"content-type", kind.encode()), (b"cache-control", b"no-store"))
            await Answer(status, body, headers).send(send)

        return [(path, ("GET",), _Plain(health)) for path in ("/livez", "/readyz", "/startupz", "/metrics")]

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as fault:
            await send({"type": "lifespan.startup.failed", "message": f"{type(fault).__name__}: {fault}"})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


class _Plain:
    """Makes an object of a function: Starlette takes functions for something of its own."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Guarded:
    """What needs the opened app, and is 503 without it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "consumer.desk" not in scope:
            await problem("store-unavailable").send(send)
        else:
            await self._app(scope, receive, send)


def _router(ways: Sequence[Way]) -> App:
    try:
        from starlette.routing import Route, Router, request_response  # noqa: PLC0415 - only who serves HTTP needs it
    except ModuleNotFoundError:
        raise SettingsError("HTTP needs Starlette: pip install 'idempotent-consumer[http]'") from None

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - see ASGI
        await problem("not-found").send(send)

    routes = []
    for path, methods, app in ways:
        asgi: Any = request_response(app) if inspect.isroutine(app) else app
        routes.append(
            Route(path, asgi if isinstance(asgi, _Plain) else _Guarded(asgi), methods=list(methods))
        )
    return Router(routes, redirect_slashes=False, default=nothing)
