"""`App`: what is declared, and `open`: a running process of it."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from consumer.declare.handlers import Handler, Handlers
from consumer.declare.keyrules import HeaderRule
from consumer.declare.names import LONGEST_NAME, name_fault
from consumer.declare.outgoing import HeaderItems, outgoing_of
from consumer.declare.tx import Row
from consumer.entry import Landed, Landing
from consumer.errors import ConsumerError, RegistrationError, SettingsError, StoreUnavailable
from consumer.http.endpoint import EndpointApp
from consumer.http.hooks import WebhookApp
from consumer.http.openapi import document
from consumer.http.service import Service, Way
from consumer.message import Message, Outgoing
from consumer.observe.observed import Observed
from consumer.observe.tracing import tracing_of
from consumer.path.desk import STORE_LIMIT, Desk
from consumer.path.direct import fault_of
from consumer.path.forward import Forwarder
from consumer.path.keying import Unkeyed
from consumer.path.parts import Ending, Observer, Work
from consumer.settings import Settings
from consumer.worker.connect import Connections, connect, under_load
from consumer.worker.forwarding import forwarder_of
from consumer.worker.gates import gate_of
from consumer.worker.suited import check_resources
from consumer.worker.wiring import Runtime, check_store

__all__ = ["App", "Running"]


class App:
    """A name and the handlers that share it.

    Args:
        name: part of the identity of every key, and the default consumer group: never changes.
        *handlers: registries of other modules to include.

    Raises:
        RegistrationError: the name cannot be one, or the registries do not go together.
    """

    def __init__(self, name: str, *handlers: Handlers) -> None:
        if name_fault(name) is not None:
            raise RegistrationError(
                f"App({name!r}): the app's name must be 1 to {LONGEST_NAME} printable characters without a blank at "
                "either end, as in App('shop'); it is part of every key, so never change it afterwards"
            )
        self.name = name
        self.handlers = Handlers()
        self.on = self.handlers.on
        self.resource = self.handlers.resource
        self.include = self.handlers.include
        self.endpoint = self.handlers.endpoint
        self.webhook = self.handlers.webhook
        self.route = self.handlers.route
        self._schema: dict[str, list[str]] = {}
        for each in handlers:
            self.include(each)

    def schema(self, *, postgres: Sequence[str] = (), sqlite: Sequence[str] = ()) -> None:
        """Declare the application's own tables; `consumer migrate` creates them after the framework's.

        Args:
            postgres: statements for Postgres, each safe to repeat (`create table if not exists`).
            sqlite: the same for SQLite.
        """
        self._schema.setdefault("postgres", []).extend(postgres)
        self._schema.setdefault("sqlite", []).extend(sqlite)

    def own_schema(self, dialect: str) -> tuple[str, ...]:
        """Return the application's statements for a store's dialect."""
        return tuple(self._schema.get(dialect, ()))

    @property
    def schema_dialects(self) -> list[str]:
        """The kinds of store for which there are statements."""
        return sorted(dialect for dialect, statements in self._schema.items() if statements)

    def asgi(self, settings: Settings | None = None, *, consume: bool = False) -> Service:
        """Return the ASGI application: endpoints, webhooks, routes, health, metrics, `/openapi.json`.

        Its lifespan opens the app; see `consumer.http.service.Service`.

        Args:
            settings: default: `Settings.load()`.
            consume: feed the handlers in this process too; else workers do.

        Raises:
            RegistrationError: a declaration is wrong.
            SettingsError: a setting is wrong, or Starlette is not installed. A webhook's missing secret stops nothing: that
                webhook answers 503.
        """
        settings = Settings.load() if settings is None else settings
        observed = self.observed(settings.with_(health_port=0))  # the service answers on its own port

        @asynccontextmanager
        async def opened() -> AsyncIterator[Running]:
            with observed.served():
                async with self.running(
                    settings, consume=consume, observer=observed, measured=True, serves=True
                ) as running:
                    observed.opened(running.runtime, running.desk)
                    yield running

        return self.serving(opened, observed)

    def observed(
        self, settings: Settings, other: Observer | None = None, *, handlers: Sequence[Handler] | None = None
    ) -> Observed:
        """Return what counts and tells of one process of this app, see `consumer.observe`.

        Args:
            settings: of the process.
            other: another observer, told of every ending too.
            handlers: in the stead of the declared ones (`Idempotency` adds its routes).
        """
        providers = [webhook.provider.name for webhook in self.handlers.webhooks]
        declared = self.handlers.declared if handlers is None else handlers
        return Observed(declared, providers, settings, other)

    def serving(
        self, opener: Callable[[], AbstractAsyncContextManager[Running]], observed: Observed
    ) -> Service:
        """As `asgi`, for a process that opens the app in its own way and is observed by `observed`."""
        self.handlers.check()
        ways: list[Way] = [(e.path, (e.method,), EndpointApp(e)) for e in self.handlers.endpoints]
        for webhook in self.handlers.webhooks:
            gate = gate_of(webhook)
            methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
            ways.append((webhook.path, methods, WebhookApp(webhook, webhook.provider.name, gate)))
        ways += [(route.path, (route.method,), route.function) for route in self.handlers.routes]
        return Service(ways, opener, lambda: document(self.name, self.handlers.endpoints), observed.answer)

    @asynccontextmanager
    async def open(self, settings: Settings | None = None) -> AsyncIterator[Running]:
        """Open the app without consuming: to publish, and to call handlers directly.

        Args:
            settings: default: `Settings.load()`.

        Raises:
            RegistrationError: a declaration is wrong.
            SettingsError: a setting is wrong, or the store cannot keep what a handler promises.
            StoreUnavailable: nobody answers.
        """
        settings = Settings.load() if settings is None else settings
        async with self.running(settings, consume=False) as running:
            yield running

    @asynccontextmanager
    async def lifespan(
        self,
        outer: Any = None,  # noqa: ARG002 - Starlette passes its application
        *,
        settings: Settings | None = None,
    ) -> AsyncIterator[dict[str, Running]]:
        """Open the app as long as another application lives: `FastAPI(lifespan=app.lifespan)`.

        Its routes find what `open` returns in `request.state.running`. `asgi` has a lifespan of its own.

        Args:
            outer: the application; Starlette's rule of the form, not looked at.
            settings: default: `Settings.load()`.

        Raises:
            RegistrationError, SettingsError, StoreUnavailable: as `open`.
        """
        async with self.open(settings) as running:
            yield {"running": running}

    @asynccontextmanager
    async def running(
        self,
        settings: Settings,
        *,
        consume: bool,
        relay: bool | None = None,
        observer: Observer | None = None,
        given: Mapping[Any, Any] | None = None,
        connections: Connections | None = None,
        handlers: Sequence[Handler] | None = None,
        measured: bool = False,
        serves: bool = False,
    ) -> AsyncIterator[Running]:
        """Open a process of the app; with `consume` its handlers are fed until the block ends.

        Args:
            settings: see `Settings`.
            consume: feed the handlers.
            relay: pass the outbox on; default: where it consumes. Alone (`consume` false) no handler runs, and no
                resource is opened.
            observer: sees every ending.
            given: ready-made resources by type (tests).
            connections: store and broker (tests); default: as the settings say.
            handlers: in the stead of the declared ones (tests).
            measured: look up now and then what only store and broker know, for the metrics.
            serves: webhooks come in here, so where they go to is looked at before the first one.
        """
        self.handlers.check(given or {})
        relays = consume if relay is None else relay
        declared = under_load(self.handlers.declared if handlers is None else handlers, settings)
        connections = connect(self.name, settings, declared) if connections is None else connections
        try:
            if consume or not relays:  # a relay alone runs no handler
                check_store(connections.store, settings.store, declared)
                check_resources(
                    connections.store, settings.store, declared, self.handlers.resources, given or {}
                )
            tracing = tracing_of(self.name, settings.consumer_group or self.name)
            topics = [webhook.topic for webhook in self.handlers.webhooks]
            forwarder = forwarder_of(self.name, settings, connections, topics, tracing) if serves else None
            if forwarder is not None:
                await forwarder.check()
            await connections.store.open()
            runtime = Runtime(
                self.name,
                declared,
                self.handlers.resources,
                settings,
                connections=connections,
                observer=observer or _Silent(),
                given=given,
                consumes=consume,
                relays=relays,
                tracing=tracing,
                measured=measured,
            )
            works = consume or relays
            try:
                await runtime.open()
                await runtime.start()
                running = Running(self, settings, runtime, connections, forwarder)
                yield running
            except SettingsError:
                # Somebody beside the worker cannot begin or go on (a port is taken). What has started ends as at any other end.
                await runtime.close(clean=await runtime.drain(settings.grace))
                raise
            except BaseException:
                await runtime.close(clean=not works)
                raise
            else:
                clean = await runtime.drain(settings.grace)
                running.clean = clean
                await runtime.close(clean=clean)
        finally:
            await connections.close()


class Running:
    """An opened app.

    Attributes:
        runtime: the process' parts.
        desk: where calls and landings arrive one by one.
        clean: after the block: everything in hand had ended.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        runtime: Runtime,
        connections: Connections,
        forwarder: Forwarder | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._connections = connections
        self.runtime = runtime
        self.desk = Desk(
            runtime.parts,
            ready=lambda: runtime.ready,
            landed=runtime.look_for_due,
            forwarder=forwarder,
        )
        self.clean = True
        self._reads: set[asyncio.Task[list[Row]]] = set()

    async def publish(
        self,
        topic: str,
        value: Any,
        *,
        ordering_key: str | None = None,
        headers: HeaderItems = (),
        delay: float = 0,
    ) -> None:
        """Publish a message; it is durable when this returns.

        Args:
            topic: where to. To an embedded topic that no handler of this app subscribes to it goes nowhere, which is warned
                of once a topic.
            value: anything that msgspec encodes, as JSON; bytes pass as they are.
            ordering_key: messages of one topic and ordering key stay in order.
            headers: names and values; text is encoded as UTF-8.
            delay: seconds until it may be delivered (embedded topics only).

        Raises:
            BrokerUnavailable, StoreUnavailable: it is not known whether it was taken; publishing it again is safe, the
                handler's key takes care of the second one.
            ConsumerError: the sink refuses it for good.
            ValueError, TypeError: an argument is out of range; nothing was published.
        """
        outgoing = outgoing_of(
            uuid.uuid4().bytes, topic, value, ordering_key=ordering_key, headers=headers, delay=delay
        )
        tracing = self.runtime.parts.tracing
        with tracing.publishing(topic) as span:
            try:
                await self.publish_all(
                    [msgspec.structs.replace(outgoing, headers=tracing.carried(outgoing.headers))]
                )
            except Exception as fault:
                span.ended("failed", fault, failed=True)
                raise
            span.ended("sent")

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        """Publish encoded messages, each where its topic lives. Errors as for `publish`."""
        router = self._connections.router
        landings = [
            landing for m in messages if router.is_embedded(m.topic) for landing in router.landings(m)
        ]
        leaving = [(None, m) for m in messages if not router.is_embedded(m.topic)]
        if landings:
            landed = await self._connections.store.arrivals.land(landings)
            for landing, how in zip(landings, landed, strict=True):
                self.runtime.parts.observer.arrived(landing, how)
            self.runtime.look_for_due()
        if not leaving:
            return
        if self._connections.sink is None:
            raise SettingsError(f"topic {leaving[0][1].topic!r}: lives on no broker that this process knows")
        for published, (_, message) in zip(
            await self._connections.sink.publish(leaving), leaving, strict=True
        ):
            if published.refused is not None:
                raise ConsumerError(
                    f"topic {message.topic!r}: the broker refuses the message: {published.refused}"
                )

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Read in the store's database, outside of any key: for an application's own routes.

        Raises:
            SettingsError: the store has no database.
            StoreUnavailable: it does not answer; at once where this process knows that already.
        """
        away = self.runtime.store_away
        if away is not None:
            raise StoreUnavailable(f"not asked: {away}")
        read = asyncio.create_task(self._fetch(sql, args), name="fetch")
        self._reads.add(read)
        read.add_done_callback(self._has_read)
        # Not cancelled: the driver would wait for the server that does not answer. Its own time-outs end it.
        await asyncio.wait({read}, timeout=STORE_LIMIT)
        if not read.done():
            raise StoreUnavailable(f"the store has kept a reader waiting for {STORE_LIMIT:g} s")
        return await read

    def _has_read(self, read: asyncio.Task[list[Row]]) -> None:
        self._reads.discard(read)
        if not read.cancelled():
            read.exception()  # its caller may be gone: then nobody is left to be told

    async def _fetch(self, sql: str, args: Sequence[Any]) -> list[Row]:
        group = await self.runtime.parts.transactions.open()
        try:
            return await group.fetch(sql, args)
        finally:
            await group.rollback()

    async def call(
        self,
        function: Callable[..., Any],
        payload: Any,
        *,
        tenant: str = "public",
        ordering_key: str | None = None,
    ) -> Any:
        """Run a handler now, under the same key and entry as every other way in, and return its result.

        A cancelled caller does not stop an attempt that has started.

        Args:
            function: a handler of this app.
            payload: of its first parameter's type.
            tenant: whose key space. The handler needs a tenant rule that finds it: `Key.header(…)`, or a field of the payload
                that says the same.
            ordering_key: for an ordered handler: the call stands in line with the messages that have it. Where others are
                before it, it is `InFlight`, and is run in its turn.

        Returns:
            The handler's result; the stored one where the key was done before.

        Raises:
            InFlight, InDoubt, Conflict, Dead: what the key's entry says.
            ConsumerError: the payload has no key, or the handler's tenant rule does not find `tenant`.
            Exception: what the handler raised, where its mode permits another start: rolled back, or (at least once) perhaps
                with its effect. Nothing is stored: call again.
        """
        handler = self._app.handlers.find(function)
        value = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        topic = handler.topics[0] if handler.topics else handler.name
        name = handler.tenant.name if isinstance(handler.tenant, HeaderRule) else "tenant"
        headers = () if tenant == "public" else ((name, tenant.encode("utf-8", "surrogatepass")),)
        carried = self.runtime.parts.tracing.carried(headers)
        message = Message(topic, value, carried, ordering_key=ordering_key, source="call")
        envelope = self.desk.envelope(handler, message)
        if isinstance(envelope, Unkeyed):
            raise ConsumerError(f"{handler.name}: {envelope.text}")
        if tenant not in {"public", envelope.tenant}:
            # Its keys would be shared with whoever else is told apart by nothing.
            raise ConsumerError(
                f"{handler.name}: tenant={tenant!r} is not what its tenant rule finds ({envelope.tenant!r}); "
                'write tenant=Key.header("tenant") in its @on(…)'
            )
        work = Work(handler, envelope)
        called = await self.desk.call(work)
        fault = fault_of(work, called)
        if fault is not None:
            raise fault
        if called.ending.result is None:
            return None
        try:
            return msgspec.json.decode(called.ending.result, type=_returned(handler))
        except TypeError:
            return msgspec.json.decode(
                called.ending.result
            )  # a union that JSON cannot tell apart: plain values


def _returned(handler: Handler) -> Any:
    returns = handler.asks.returns
    return Any if returns is inspect.Signature.empty else returns


class _Silent:
    """Observes nothing."""

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        """See `path.parts.Observer`."""

    def arrived(self, landing: Landing, landed: Landed) -> None:
        """See `path.parts.Observer`."""
