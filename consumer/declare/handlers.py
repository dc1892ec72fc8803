"""`Handlers`: what one module declares, and what is wrong with all of it together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterator, Sequence
from typing import Any, TypeVar, Unpack

from consumer.declare.building import build
from consumer.declare.complaints import complaint, did_you_mean, type_name, where_of
from consumer.declare.context import Context
from consumer.declare.handler import Handler
from consumer.declare.keyrules import HeaderRule
from consumer.declare.options import Options, mode_text
from consumer.declare.resources import Resource, ResourceRegistry, read_resource
from consumer.declare.signature import caller_names
from consumer.declare.tx import Tx
from consumer.declare.ways import Endpoint, Request, Route, Webhook, checked_endpoint, translation_of
from consumer.errors import RegistrationError
from consumer.rules.modes import MODES

__all__ = ["Handler", "Handlers"]

_HandlerFunction = TypeVar("_HandlerFunction", bound=Callable[..., Coroutine[Any, Any, Any]])
_ResourceFunction = TypeVar("_ResourceFunction", bound=Callable[..., AsyncIterator[Any]])


class Handlers:
    """A registry for one module; `App.include` (or `App("shop", pay.handlers)`) joins several.

    What is declared later, also in an included registry, counts as long as the app has not started.
    """

    def __init__(self) -> None:
        self._own: list[Handler] = []
        self._own_resources: list[Resource] = []
        self._own_endpoints: list[Endpoint] = []
        self._own_webhooks: list[Webhook] = []
        self._own_routes: list[Route] = []
        self._included: list[Handlers] = []

    def on(self, *topics: str, **options: Unpack[Options]) -> Callable[[_HandlerFunction], _HandlerFunction]:
        """Declare a handler: `@handlers.on("payments.requested", key=Key.field("payment_id"), mode=Transactional())`.

        Args:
            *topics: what it subscribes to. A handler with other ways in only has none, and a `name=`.
            **options: see `consumer.declare.options.Options`; `key=` and `mode=` have no default.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            RegistrationError: by the decorator: something is wrong; the text says where, what, and the mend.
        """
        for topic in topics:
            if callable(topic):  # `@app.on` without arguments would swallow the function without a word
                raise complaint(where_of(topic), 'write @app.on("topic", key=…, mode=…), with its arguments')

        def register(function: _HandlerFunction) -> _HandlerFunction:
            handler = build(function, topics, options, caller_names(1))
            for known in self.declared:
                if known.function is function:
                    raise complaint(
                        handler.where,
                        f"is a handler already ({known.name!r}); one handler is one operation: name all topics in one @on(…)",
                    )
                clash = _clash(known, handler)
                if clash is not None:
                    raise complaint(handler.where, clash)
            self._own.append(handler)
            return function

        return register

    def resource(self, function: _ResourceFunction) -> _ResourceFunction:
        """Declare a resource: an async generator function, found by the type that it yields.

        It lives as long as the process; one that asks for `Context` or `Tx` lives one attempt, is closed before the attempt
        is settled, and sees the handler's exception at its `yield`.

        Raises:
            RegistrationError: something is wrong; the text says where, what, and the mend.
        """
        resource = read_resource(function, caller_names(1))
        problems = ResourceRegistry([*self.resources.all, resource]).problems()
        if problems:
            raise RegistrationError(problems[-1])
        self._own_resources.append(resource)
        return function

    def endpoint(
        self,
        method: str,
        path: str,
        handler: Callable[..., Any],
        *,
        tenant: Callable[[Request], Any],
        translate: Callable[..., Any] | None = None,
        status: int = 200,
        wait: float = 0,
        headers: Sequence[str] = (),
    ) -> None:
        """Declare an HTTP endpoint as a way into a handler: its result is the response, stored and replayed.

        Args:
            method: `POST`, `PUT`, `PATCH` or `DELETE`.
            path: with parameters as Starlette writes them: `/accounts/{account}/payments`.
            handler: the function above which `@on` stands.
            tenant: whose key space a request is in: a function (it may be async) of the `Request`, which raises
                `Unauthenticated` or `BadRequest`; `single_tenant` where there is one only. No default: a key space that
                strangers share is a leak.
            translate: makes the payload, `(body, request)`; the annotation of `body` says how it is decoded. Default: the
                body is the payload, and its key must be the one in the header.
            status: of the response that has a result.
            wait: seconds that a request waits for a key that is being worked on, before it is told 409.
            headers: names of the header fields that `tenant` and `translate` read, for `/openapi.json`; each is optional there.

        Raises:
            RegistrationError: something is wrong; the text says where, what, and the mend.
        """
        found = self.find(handler)
        made = checked_endpoint(
            Endpoint(
                method.upper(),
                path,
                found,
                translation_of(translate, found.asks.payload, caller_names(1)),
                tenant,
                status,
                wait,
                (headers,) if isinstance(headers, str) else tuple(headers),
            )
        )
        self._refuse_taken(made.method, path, found.where)
        found.add_way_in(made.text)
        self._own_endpoints.append(made)

    def webhook(
        self,
        path: str,
        provider: Any,
        *,
        topic: str,
        translate: Callable[..., Any] | None = None,
        tenant: Callable[[Request], Any] | None = None,
    ) -> None:
        """Declare a webhook as a way into the handlers of a topic: verified, then landed durably, then answered.

        Args:
            path: where the provider sends to.
            provider: of `consumer.webhooks`, with its secret.
            topic: whose handlers get it.
            translate: makes the payload, `(body, request)`, or `None`: acknowledged and counted, nothing lands. Default: the
                body is the payload.
            tenant: whose key space, as for `endpoint`; default: `public`.

        Raises:
            RegistrationError: something is wrong; the text says where, what, and the mend.
        """
        where = f"webhook {path}"
        if not path.startswith("/"):
            raise complaint(where, f"the path starts with a slash: '/{path}'")
        if not hasattr(provider, "verify") or isinstance(provider, type):
            raise complaint(where, f"{provider!r} is no provider; write Stripe(secret=Secret.env(…))")
        self._refuse_taken("POST", path, where)
        translation = translation_of(translate, bytes, caller_names(1))
        self._own_webhooks.append(Webhook(path, provider, topic, translation, tenant))

    def route(self, method: str, path: str, function: Callable[..., Any]) -> None:
        """Declare a plain HTTP route of the application, without a key.

        Args:
            method: any.
            path: as for `endpoint`.
            function: a Starlette endpoint: `async (request) -> Response`; `request.state.running` is the opened app.

        Raises:
            RegistrationError: something answers there already.
        """
        self._refuse_taken(method.upper(), path, where_of(function))
        self._own_routes.append(Route(method.upper(), path, function))

    def include(self, other: Handlers) -> None:
        """Take in what `other` declares, now and later.

        Raises:
            RegistrationError: `other` is no registry, or two handlers now share a name, or two resources a type.
        """
        if not isinstance(other, Handlers):
            raise RegistrationError(
                f"include() takes Handlers, the registry itself, not {type_name(type(other))}"
            )
        self._included.append(other)
        problems = [*_clashes(self.declared), *self.resources.problems()]
        if problems:
            self._included.pop()
            raise RegistrationError("\n".join(problems))

    @property
    def declared(self) -> tuple[Handler, ...]:
        """Every handler, own ones first, in the order of declaration."""
        return tuple(handler for registry in self._registries(set()) for handler in registry._own)  # noqa: SLF001 - its own kind

    @property
    def resources(self) -> ResourceRegistry:
        """Every resource, as declared so far."""
        own = [registry._own_resources for registry in self._registries(set())]  # noqa: SLF001 - its own kind
        return ResourceRegistry([resource for resources in own for resource in resources])

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint, as declared so far."""
        return tuple(e for registry in self._registries(set()) for e in registry._own_endpoints)  # noqa: SLF001 - its own kind

    @property
    def webhooks(self) -> tuple[Webhook, ...]:
        """Every webhook, as declared so far."""
        return tuple(w for registry in self._registries(set()) for w in registry._own_webhooks)  # noqa: SLF001 - its own kind

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every plain route, as declared so far."""
        return tuple(r for registry in self._registries(set()) for r in registry._own_routes)  # noqa: SLF001 - its own kind

    def find(self, function: Callable[..., Any]) -> Handler:
        """Return the handler that `function` was declared as.

        Raises:
            RegistrationError: it was not.
        """
        for handler in self.declared:
            if handler.function is function:
                return handler
        raise RegistrationError(
            f"{where_of(function)}: is no handler of this app; put @app.on(…) above it, or include its Handlers"
        )

    def problems(self, given: Container[Any] = ()) -> list[str]:
        """Return everything that is wrong and can be seen only when all is declared, a line each.

        Args:
            given: types for which there are ready-made values (tests), so that no resource need yield them.
        """
        declared, resources = self.declared, self.resources
        found = [*_clashes(declared), *resources.problems()]
        for webhook in self.webhooks:
            found += _unheard(webhook, declared)
        for handler in declared:
            found += _unmet(handler, resources, given)
            ways = handler.ways_in
            if len(ways) > 1 and handler.same is None:
                found.append(
                    f"{handler.where}: has {len(ways)} ways in ({', '.join(ways)}); say which fields make two payloads the "
                    'same: same=("account", "amount")'
                )
        return found

    def check(self, given: Container[Any] = ()) -> None:
        """Refuse what `problems` finds, all of it at once.

        Raises:
            RegistrationError: a line per problem.
        """
        problems = self.problems(given)
        if problems:
            raise RegistrationError("\n".join(problems))

    def _refuse_taken(self, method: str, path: str, where: str) -> None:
        taken = {(e.method, e.path) for e in self.endpoints} | {(r.method, r.path) for r in self.routes}
        if (method, path) in taken | {("POST", w.path) for w in self.webhooks}:
            raise complaint(where, f"something answers {method} {path} already; a request has one way in")

    def _registries(self, seen: set[int]) -> Iterator[Handlers]:
        """Yield this registry and the included ones, each once, however often and in whatever circle they are included."""
        if id(self) in seen:
            return
        seen.add(id(self))
        yield self
        for other in self._included:
            yield from other._registries(seen)  # noqa: SLF001 - its own kind


def _clash(first: Handler, second: Handler) -> str | None:
    """Return why two handlers cannot be told apart, or `None`."""
    if first.name != second.name:
        return None
    if not first.named and not second.named:
        return (
            f'two handlers on {second.name!r} would share keys; give one of them name="…", and never change it '
            f"(the other: {first.where})"
        )
    return f"the name {second.name!r} is taken by {first.where}; two operations cannot share keys: choose another name"


def _clashes(declared: tuple[Handler, ...]) -> list[str]:
    found: list[str] = []
    for i, handler in enumerate(declared):
        for known in declared[:i]:
            clash = _clash(known, handler)
            if clash is not None:
                found.append(f"{handler.where}: {clash}")
    return found


def _unheard(webhook: Webhook, declared: tuple[Handler, ...]) -> list[str]:
    """Count a webhook among its handlers' ways in; return what is wrong where it has none, or they do not fit together."""
    subscribed = [handler for handler in declared if webhook.topic in handler.topics]
    found: list[str] = []
    for handler in subscribed:
        handler.add_way_in(webhook.path)
        found += _unfit(webhook, handler)
    if subscribed:
        return found
    topics = [topic for handler in declared for topic in handler.topics]
    return [
        f"webhook {webhook.path}: nobody subscribes to {webhook.topic!r}{did_you_mean(webhook.topic, topics)}"
    ]


def _unfit(webhook: Webhook, handler: Handler) -> list[str]:
    """Return what keeps a webhook from being a way into a handler of its topic."""
    where = f"{handler.where}: {webhook.path}"
    found: list[str] = []
    if webhook.tenant is not None and handler.tenant is None:
        found.append(
            f'{where} has tenant=, but the handler has no tenant rule; write tenant=Key.header("tenant")'
        )
    elif webhook.tenant is not None and not isinstance(handler.tenant, HeaderRule):
        found.append(
            f"{where} has tenant=, which would be dropped: the handler's tenant rule reads the payload; "
            "write tenant=Key.header(…) in its @on(…), or take tenant= away from the webhook"
        )
    repeats = getattr(webhook.provider, "retry_horizon", None)  # not known of every provider
    remembers = handler.retention.total_seconds()
    if repeats is not None and remembers <= repeats:
        found.append(
            f"{where} may repeat an event for {repeats / 3600:.4g} h, but the handler forgets a key after "
            f"{remembers / 3600:.4g} h, so the last repetition would run again; "
            f"write retention=timedelta(hours={int(repeats // 3600) + 1}), or longer"
        )
    return found


def _unmet(handler: Handler, resources: ResourceRegistry, given: Container[Any]) -> list[str]:
    """Return what a handler and its reconcile ask for and cannot have."""
    in_transaction = MODES[type(handler.mode)].in_transaction
    found: list[str] = []
    for who, kinds, has_tx in (
        ("", handler.needs, in_transaction),
        ("its reconcile ", handler.reconcile_needs, False),
    ):
        for kind in kinds:
            if kind in given:
                continue
            resource = resources.get(kind)
            if resource is None:
                found.append(
                    f"{handler.where}: {who}asks for {type_name(kind)}, which no resource yields{_hint(kind, resources)}"
                )
            elif resource.wants_tx and not has_tx:
                has = "a reconcile runs outside of any" if who else f"{mode_text(handler.mode)} has none"
                found.append(
                    f"{handler.where}: {who}asks for {type_name(kind)}, whose resource needs a transaction, but {has} "
                    f"({resource.where})"
                )
    return found


def _hint(kind: Any, resources: ResourceRegistry) -> str:
    if isinstance(kind, type) and issubclass(kind, Context | Tx):
        return "; ask for Context or Tx itself"
    known = [type_name(resource.yields) for resource in resources.all]
    return (
        f" (there are: {', '.join(known)})"
        if known
        else "; write one: @app.resource above an async generator of it"
    )
