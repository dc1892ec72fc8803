"""`Handlers`: what one module declares, and what is wrong with all of it together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterator
from typing import Any, TypeVar, Unpack

from consumer.declare.building import build
from consumer.declare.complaints import complaint, type_name, where_of
from consumer.declare.context import Context
from consumer.declare.handler import Handler
from consumer.declare.options import Options, mode_text
from consumer.declare.resources import Resource, ResourceRegistry, read_resource
from consumer.declare.signature import caller_names
from consumer.declare.tx import Tx
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
