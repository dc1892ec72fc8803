"""`Idempotency`: gives keys to the routes of any ASGI application, for routes that have no handler.

The route becomes an at-most-once handler whose function is the application behind, and whose result is the response. So
claims, fencing, waiting, doubts, drain and purge are those of every other way in; nothing of them is built twice.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol

from consumer.declare.guarded import guarded
from consumer.declare.handlers import Handler, Handlers
from consumer.declare.ways import LONGEST_WAIT, Request
from consumer.errors import RegistrationError
from consumer.http.answer import App, Receive, Scope, Send
from consumer.http.capture import run
from consumer.http.life import Lifespan
from consumer.http.once import Once
from consumer.http.policy import Policy
from consumer.http.problem import problem
from consumer.http.routing import Rules, path_of
from consumer.http.service import Opened, Service
from consumer.path.desk import Desk
from consumer.path.parts import Observer
from consumer.rules.decode import LONGEST_BODY
from consumer.settings import Settings

__all__ = ["Idempotency", "Opens"]

_log = logging.getLogger("consumer.http")

MEND = (
    "the lifespan does not reach Idempotency: a mounted application gets none; wrap the outer application, or run "
    "`lifespan=` of the wrapped one in it"
)


class Process(Opened, Protocol):
    """A process of an app, opened."""

    runtime: Any


class Watching(Observer, Protocol):
    """What is counted and told of a process; see `App.observed`."""

    def served(self) -> AbstractContextManager[None]:
        """Serve the health port where the settings name one."""
        ...

    def opened(self, runtime: Any, desk: Desk) -> None:
        """Tell of this process from now on."""
        ...


class Opens(Protocol):
    """What the middleware asks of an `App`."""

    name: str
    handlers: Handlers

    def observed(self, settings: Settings, *, handlers: Sequence[Handler] | None) -> Watching:
        """Return what counts and tells of one process; see `App.observed`."""
        ...

    def running(
        self,
        settings: Settings,
        *,
        consume: bool,
        observer: Observer | None,
        handlers: Sequence[Handler] | None,
        measured: bool,
    ) -> AbstractAsyncContextManager[Process]:
        """Open a process of the app; see `App.running`."""
        ...


class Idempotency:
    """ASGI middleware: a request with a key reaches the application at most once, and its response is the key's result.

    `api.add_middleware(Idempotency, app=app, tenant=tenant, routes={"POST /payments": "required"})` in Starlette and
    FastAPI; `Idempotency(api, app=app, tenant=tenant)` around anything else. It opens `app` on the `lifespan` scope.
    `docs/http.md` says what is stored, and what every status means.

    Args:
        asgi: the application behind.
        app: an `App`; its store and its name are used, and its handlers can be called from routes by
            `request.state.running`.
        tenant: whose key space a request is in: a function (it may be async) of the `Request`, or of the `Request` and the
            ASGI scope, which raises `Unauthenticated` or `BadRequest`. `single_tenant` where there is one only.
        routes: what a route wants of the key: `required`, `optional` or `off`. Paths with parameters as frameworks write
            them; `POST *` is every other path. Default: `POST *` and `PATCH *` are optional, other methods pass. What is
            written here is part of the keys' identity: a route that is renamed forgets its keys.
        wait: seconds that a request waits for a key that is being worked on, before it is told 409.
        timeout: seconds that the application may take until its response is whole (or too large to be stored); after it the
            application is cancelled, and the outcome is in doubt.
        retention: how long a key is remembered.
        settings: default: `Settings.load()` when the app is opened.
        largest_body: bytes of the largest request that is read where a key was sent.
        policy: which responses are stored.
        refuse_late: a key that is a UUID of version 7, older than `retention` and not known, is refused: it may have been
            done and forgotten.

    Raises:
        RegistrationError: an argument is wrong; the text says which, and the mend.
        SettingsError: Starlette is not installed.
    """

    def __init__(
        self,
        asgi: App,
        /,
        *,
        app: Opens,
        tenant: Callable[..., Any],
        routes: Mapping[str, str] | None = None,
        wait: float = 0,
        timeout: float = 30,
        retention: timedelta = timedelta(days=14),
        settings: Settings | None = None,
        largest_body: int = LONGEST_BODY,
        policy: Policy | None = None,
        refuse_late: bool = False,
    ) -> None:
        _check(app, tenant)
        _check_numbers(wait=wait, timeout=timeout, retention=retention, largest_body=largest_body)
        self._asgi = asgi
        self._app = app
        self._settings = settings
        self._rules = Rules(routes or {})
        self._tenant = tenant
        self._wants_scope = _parameters(tenant) == 2
        self._tails: set[asyncio.Task[None]] = set()
        policy = policy or Policy()
        self._guards = {
            rule.name: Once(
                asgi,
                guarded(rule.name, run, timeout=timeout, retention=retention),
                app.name,
                required=rule.need == "required",
                wait=wait,
                largest_body=largest_body,
                policy=policy,
                refuse_late=refuse_late,
                tails=self._tails,
            )
            for rule in self._rules.guarded()
        }
        self._service = Service([], self._opening, dict)
        self._began = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await Lifespan(self._asgi, self._start, self._stop).serve(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._asgi(scope, receive, send)
            return
        opened = self._service.opened
        if opened is not None:
            scope.setdefault("state", {})["running"] = opened
        found = self._rules.find(scope["method"], path_of(scope))
        once = None if found is None else self._guards[found[0].name]
        if found is None or once is None or not once.concerns(scope):
            await self._asgi(scope, receive, send)
            return
        if opened is None:
            if not self._began:
                _log.error(MEND)
            await problem("store-unavailable", "" if self._began else MEND).send(send)
            return
        seen = {**scope, "path_params": {**scope.get("path_params", {}), **found[1]}}
        await once.serve(opened.desk, scope, self._tenant_of(seen), receive, send)

    @asynccontextmanager
    async def lifespan(self, outer: Any = None) -> AsyncIterator[None]:  # noqa: ARG002 - Starlette passes its application
        """Open the app for as long as the block lasts, for an outer application whose lifespan does not come this far.

        Raises:
            RegistrationError, SettingsError: it can never work like this.
        """
        await self._start()
        try:
            yield
        finally:
            await self._stop()

    @asynccontextmanager
    async def _opening(self) -> AsyncIterator[Opened]:
        settings = Settings.load() if self._settings is None else self._settings
        handlers = [*self._app.handlers.declared, *(once.handler for once in self._guards.values())]
        watching = self._app.observed(settings, handlers=handlers)
        with watching.served():
            async with self._app.running(
                settings, consume=False, handlers=handlers, observer=watching, measured=True
            ) as process:
                watching.opened(process.runtime, process.desk)
                yield process

    async def _start(self) -> None:
        taken = {h.name for h in self._app.handlers.declared} & set(self._guards)
        if taken:
            raise RegistrationError(
                f"Idempotency: the route {min(taken)!r} has the name of a handler, and would share its keys; rename the handler"
            )
        await self._service.start()
        self._began = True

    async def _stop(self) -> None:
        """Let what was started come to its end, then close the app; what an application does after its response ends here."""
        await self._service.stop()
        self._began = False
        for tail in self._tails:
            tail.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tails, return_exceptions=True)

    def _tenant_of(self, scope: Scope) -> tuple[Scope, Callable[[Request], Any]]:
        if not self._wants_scope:
            return scope, self._tenant
        return scope, lambda request: self._tenant(request, scope)


def _parameters(function: Callable[..., Any]) -> int:
    try:
        given = inspect.signature(function).parameters.values()
    except ValueError:
        return 1
    return sum(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} and p.default is p.empty for p in given)


def _check(app: Any, tenant: Any) -> None:
    if not isinstance(getattr(app, "handlers", None), Handlers):
        raise RegistrationError(
            f"Idempotency: app={app!r} is no App; write app=App('shop'), the keys' app and store"
        )
    if not callable(tenant) or _parameters(tenant) not in {1, 2}:
        raise RegistrationError(
            f"Idempotency: tenant={tenant!r} is no function of the request (and, if it likes, the scope); "
            "single_tenant where there is one only"
        )


def _check_numbers(*, wait: float, timeout: float, retention: Any, largest_body: int) -> None:
    if not 0 <= wait <= LONGEST_WAIT:
        raise RegistrationError(
            f"Idempotency: wait={wait!r}: must be from 0 to {LONGEST_WAIT:g} seconds; shorten it"
        )
    if not 0 < timeout < float("inf"):
        raise RegistrationError(
            f"Idempotency: timeout={timeout!r}: must be more than 0 seconds; write timeout=30"
        )
    if not isinstance(retention, timedelta) or retention <= timedelta(0):
        raise RegistrationError(
            f"Idempotency: retention={retention!r}: write a timedelta: timedelta(days=14)"
        )
    if largest_body < 1:
        raise RegistrationError(f"Idempotency: largest_body={largest_body!r}: must be 1 byte or more")
