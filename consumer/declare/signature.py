"""What a function asks for: the payload first, everything else by its type."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from consumer.declare.complaints import complaint, type_name, where_of
from consumer.declare.context import Context
from consumer.declare.tx import Tx

__all__ = ["Asks", "asks_of", "caller_names", "hints_of"]

_Parameter = inspect.Parameter


class Asks(msgspec.Struct, frozen=True, dict=True):
    """What a function is called with.

    Attributes:
        payload: the type of the first parameter; `None` where the function takes no payload.
        positional: the types of the others that go by position, in order.
        named: name and type of those that go by keyword only.
        returns: the return annotation; `inspect.Signature.empty` where there is none.
    """

    payload: Any
    positional: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]
    returns: Any

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """Every type that is asked for, without the payload's."""
        return (*self.positional, *(kind for _, kind in self.named))

    @cached_property
    def needs(self) -> tuple[Any, ...]:
        """The types that resources must yield: all but `Context` and `Tx`, each once, in order."""
        return tuple(dict.fromkeys(kind for kind in self.kinds if kind is not Context and kind is not Tx))

    def call(
        self,
        function: Callable[..., Any],
        first: tuple[Any, ...],
        ctx: Context | None,
        tx: Tx | None,
        found: Mapping[Any, Any],
    ) -> Any:
        """Call `function` with `first` (the payload, or nothing) and all that it asks for; return what it returns."""
        args = [ctx if kind is Context else tx if kind is Tx else found[kind] for kind in self.positional]
        if not self.named:
            return function(*first, *args)
        named = {
            name: ctx if kind is Context else tx if kind is Tx else found[kind] for name, kind in self.named
        }
        return function(*first, *args, **named)


def asks_of(
    function: Callable[..., Any],
    *,
    payload: bool,
    local: Mapping[str, Any] | None = None,
    what: str = "handler",
) -> Asks:
    """Read the signature of a handler, a reconcile or a resource.

    Args:
        function: what to read.
        payload: its first parameter is the payload.
        local: the names of the place of declaration, for types that are defined inside a function.
        what: what the function is, for the error.

    Raises:
        RegistrationError: a parameter cannot be passed.
    """
    where = where_of(function)
    hints = hints_of(function, local)
    given = list(inspect.signature(function).parameters.values())
    if payload and not given:
        raise complaint(where, "has no parameter; the first one is the payload: `payment: Payment`")
    for parameter in given:
        _check(where, parameter, hints, first=payload and parameter is given[0], what=what)
    rest = given[1:] if payload else given
    return Asks(
        payload=hints[given[0].name] if payload else None,
        positional=tuple(hints[p.name] for p in rest if p.kind is not _Parameter.KEYWORD_ONLY),
        named=tuple((p.name, hints[p.name]) for p in rest if p.kind is _Parameter.KEYWORD_ONLY),
        returns=hints.get("return", inspect.Signature.empty),
    )


def hints_of(function: Callable[..., Any], local: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a function's annotations as types.

    Raises:
        RegistrationError: an annotation names something that does not exist where the function is declared.
    """
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:
        pass  # perhaps it is defined inside the function that declares the handler
    except Exception as fault:
        raise complaint(where_of(function), f"an annotation cannot be read: {fault}") from fault
    try:
        return get_type_hints(function, localns=dict(local or {}), include_extras=True)
    except Exception as fault:
        mend = "; import it at run time, not under TYPE_CHECKING" if isinstance(fault, NameError) else ""
        raise complaint(where_of(function), f"an annotation cannot be read: {fault}{mend}") from fault


def caller_names(depth: int) -> Mapping[str, Any]:
    """Return the local names `depth` calls above the caller: types of a test are often defined inside it."""
    return sys._getframe(depth + 1).f_locals  # noqa: SLF001 - the documented way to them; only read


def _check(
    where: str, parameter: inspect.Parameter, hints: Mapping[str, Any], *, first: bool, what: str
) -> None:
    name = parameter.name
    if parameter.kind in {_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD}:
        stars = "*" if parameter.kind is _Parameter.VAR_POSITIONAL else "**"
        raise complaint(where, f"{stars}{name} cannot be filled; name each parameter and give it a type")
    if name not in hints:
        mend = f"`{name}: Payment`" if first else "Context, Tx or a type that a resource yields"
        role = "the payload, and its type says how to decode it" if first else "asked for by its type"
        raise complaint(where, f"parameter {name!r} has no annotation; it is {role}: {mend}")
    if parameter.default is not _Parameter.empty:
        raise complaint(
            where, f"parameter {name!r} has a default; a {what}'s parameters are always passed; remove it"
        )
    if first and parameter.kind is _Parameter.KEYWORD_ONLY:
        raise complaint(
            where, f"the payload {name!r} is keyword-only; it is passed by position, as the first parameter"
        )
    if first and (hints[name] is Context or hints[name] is Tx):
        raise complaint(
            where,
            f"the first parameter is the payload, but {name!r} is of type {type_name(hints[name])}; put it after the payload",
        )
