"""Resources: what handlers are handed by type, opened and closed around the process or around one attempt."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, get_args, get_origin

import msgspec

from consumer.declare.complaints import complaint, type_name, where_of
from consumer.declare.context import Context
from consumer.declare.signature import Asks, asks_of
from consumer.declare.tx import Tx

__all__ = [
    "AttemptResources",
    "ProcessResources",
    "Resource",
    "ResourceRegistry",
    "attempt_resources",
    "only_on",
    "read_resource",
]

F = TypeVar("F", bound=Callable[..., Any])


class Resource(msgspec.Struct, frozen=True):
    """A validated resource.

    Attributes:
        yields: the type that it is found by.
        function: the async generator function.
        asks: what it is called with: `Context` and `Tx` only.
        where: `shop.pay:psp (pay.py:9)`.
    """

    yields: Any
    function: Callable[..., AsyncIterator[Any]]
    asks: Asks
    where: str

    @property
    def per_attempt(self) -> bool:
        """It lives one attempt (it asks for `Context` or `Tx`), not as long as the process."""
        return bool(self.asks.kinds)

    @property
    def wants_tx(self) -> bool:
        """It needs a transaction, which only Transactional handlers have."""
        return Tx in self.asks.kinds

    @property
    def dialects(self) -> tuple[str, ...]:
        """The SQL dialects that it works with, where `only_on` says so; else none is named, and any will do."""
        found: tuple[str, ...] = getattr(self.function, "dialects", ())
        return found

    def opened(self, ctx: Context | None, tx: Tx | None) -> AbstractAsyncContextManager[Any]:
        """Return the context manager of one life of it."""

        def start() -> AsyncIterator[Any]:
            made: AsyncIterator[Any] = self.asks.call(self.function, (), ctx, tx, {})
            return made

        return asynccontextmanager(start)()


class ResourceRegistry:
    """Resources by the type that they yield.

    Args:
        resources: in the order of declaration; of two for one type the first is used (`Handlers.check` refuses both).
    """

    def __init__(self, resources: Sequence[Resource] = ()) -> None:
        self.all = tuple(resources)
        self._by_type: dict[Any, Resource] = {}
        for resource in resources:
            self._by_type.setdefault(resource.yields, resource)

    def get(self, kind: Any) -> Resource | None:
        """Return the resource that yields `kind`, or `None`."""
        return self._by_type.get(kind)

    def problems(self) -> list[str]:
        """Return a text for every type that two resources yield."""
        return [
            f"{resource.where}: yields {type_name(resource.yields)}, and so does {first.where}; "
            "a resource is found by its type: give one of them a type of its own"
            for resource in self.all
            if (first := self._by_type[resource.yields]) is not resource
        ]


class ProcessResources:
    """The opened resources of a process: `async with ProcessResources(registry) as resources`.

    Closed in reverse order. A resource that fails to close does not keep the others open.

    Args:
        registry: what is declared.
        given: ready-made values by type, used in a resource's stead (tests).
    """

    def __init__(self, registry: ResourceRegistry, given: Mapping[Any, Any] | None = None) -> None:
        self.registry = registry
        self._given = frozenset(given or {})
        self._open: dict[Any, Any] = dict(given or {})
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; an error of the process is seen by the resources, and never swallowed by one."""
        await self._stack.__aexit__(kind, error, trace)

    async def open_all(self, types: Iterable[Any]) -> None:
        """Open what of `types` lives as long as the process and is not open yet, in this order.

        Raises:
            KeyError: no resource yields one of the types (`Handlers.check` says it better, and earlier).
            Exception: what the resource raised, with a note that names it.
        """
        for kind in types:
            if kind in self._open:
                continue
            resource = self.registry.get(kind)
            if resource is None:
                raise KeyError(f"no resource yields {type_name(kind)}")
            if resource.per_attempt:
                continue
            try:
                self._open[kind] = await _enter(self._stack, resource.opened(None, None))
            except Exception as fault:
                fault.add_note(f"while opening the resource {resource.where}")
                raise

    def get(self, kind: Any) -> Any:
        """Return the opened resource of a type.

        Raises:
            KeyError: it is not open, or lives one attempt only.
        """
        return self._open[kind]

    @property
    def opened(self) -> Mapping[Any, Any]:
        """What is open, by type."""
        return self._open

    def of_an_attempt(self, types: Iterable[Any]) -> list[Resource]:
        """Return those resources of `types` that live one attempt."""
        found = [self.registry.get(kind) for kind in types if kind not in self._given]
        return [resource for resource in found if resource is not None and resource.per_attempt]


class AttemptResources:
    """One attempt's resources, process-wide ones included; what `async with` yields is a mapping by type.

    The clean-up runs when the block ends, which is before the attempt is settled, and sees the handler's exception as any
    context manager does. It cannot swallow it: a failed attempt does not become a success in its resource's `except`.
    """

    __slots__ = ("_ctx", "_process", "_stack", "_tx", "_types")

    def __init__(self, process: ProcessResources, types: Sequence[Any], ctx: Context, tx: Tx | None) -> None:
        self._process = process
        self._types = types
        self._ctx = ctx
        self._tx = tx
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Mapping[Any, Any]:
        short_lived = self._process.of_an_attempt(self._types)
        if not short_lived:
            return self._process.opened
        found = dict(self._process.opened)
        async with AsyncExitStack() as stack:
            for resource in short_lived:
                found[resource.yields] = await _enter(stack, resource.opened(self._ctx, self._tx))
            self._stack = stack.pop_all()
        return found

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stack is not None:
            await self._stack.__aexit__(kind, error, trace)


def attempt_resources(
    process: ProcessResources, types: Sequence[Any], ctx: Context, tx: Tx | None
) -> AttemptResources:
    """Return the context manager of what one attempt is handed.

    Args:
        process: the opened resources of the process.
        types: what the handler asks for (`Handler.needs`).
        ctx: of the attempt.
        tx: of the attempt; `None` where the mode has no transaction.
    """
    return AttemptResources(process, types, ctx, tx)


def only_on(*dialects: str) -> Callable[[F], F]:
    """Say which dialects a resource works with; on a store of another one its handlers are refused at start.

    Args:
        *dialects: as stores declare them: `postgres`, `sqlite`.
    """

    def said(function: F) -> F:
        function.__dict__["dialects"] = dialects
        return function

    return said


def read_resource(function: object, local: Mapping[str, Any] | None) -> Resource:
    """Validate a resource function.

    Raises:
        RegistrationError: it is no async generator, does not say what it yields, or asks for something it cannot have.
    """
    if not callable(function):
        raise complaint(repr(function), "is no function; a resource is an async generator function")
    where = where_of(function)
    if not inspect.isasyncgenfunction(function):
        raise complaint(where, "is no async generator; a resource is `async def` with one `yield`")
    asks = asks_of(function, payload=False, local=local, what="resource")
    if get_origin(asks.returns) not in {AsyncIterator, AsyncGenerator, AsyncIterable}:
        raise complaint(where, "does not say what it yields; annotate it: -> AsyncIterator[Psp]")
    yields = get_args(asks.returns)[0]
    if yields in {Any, object, None, type(None), Context, Tx}:
        raise complaint(
            where, f"yields {type_name(yields)}, which names no resource; annotate it with a type of its own"
        )
    for kind in asks.needs:
        raise complaint(where, f"asks for {type_name(kind)}; a resource may ask for Context and Tx only")
    return Resource(yields, function, asks, where)


async def _enter(stack: AsyncExitStack, manager: AbstractAsyncContextManager[Any]) -> Any:
    """Enter as `stack.enter_async_context` does, but let `manager` swallow nothing: those outside must see it too."""
    value = await manager.__aenter__()

    async def leave(
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        await manager.__aexit__(kind, error, trace)
        return False

    stack.push_async_exit(leave)
    return value
