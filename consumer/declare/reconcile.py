"""Reading a `reconcile`, and asking it what became of an attempt whose outcome is not known."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Union, get_args, get_origin

from consumer.declare.complaints import complaint, type_name, where_of
from consumer.declare.context import Context, Done, NotDone, Reconciled, Unknown
from consumer.declare.signature import Asks, asks_of
from consumer.declare.tx import Tx
from consumer.errors import ConsumerError

__all__ = ["ask", "read_reconcile"]


def read_reconcile(function: object, local: Mapping[str, Any] | None) -> Asks:
    """Read the signature of `AtMostOnce(reconcile=function)`.

    Raises:
        RegistrationError: it cannot be called as a reconcile is; the text names it.
    """
    if not callable(function):
        raise complaint(
            "AtMostOnce",
            f"reconcile={function!r} is no function: async (ctx: Context) -> Done | NotDone | Unknown",
        )
    where = where_of(function)
    if not inspect.iscoroutinefunction(function):
        raise complaint(where, "reconcile must be `async def`")
    asks = asks_of(function, payload=False, local=local, what="reconcile")
    if Tx in asks.kinds:
        raise complaint(
            where,
            "reconcile asks for Tx; it runs outside of any transaction, and the result goes into Done(…)",
        )
    if asks.returns is not inspect.Signature.empty and not _answers(asks.returns):
        raise complaint(
            where,
            f"reconcile returns {type_name(asks.returns)}; it must return Done(result), NotDone() or Unknown()",
        )
    return asks


async def ask(function: Callable[..., Any], asks: Asks, ctx: Context, found: Mapping[Any, Any]) -> Reconciled:
    """Ask once.

    Raises:
        ConsumerError: it answered with something else.
        Exception: whatever it raises: still unknown.
    """
    answer = await asks.call(function, (), ctx, None, found)
    if isinstance(answer, Done | NotDone | Unknown):
        return answer
    got = f"the class {answer.__name__}" if isinstance(answer, type) else type_name(type(answer))
    raise ConsumerError(
        f"{where_of(function)}: reconcile returned {got}; it must return Done(result), NotDone() or Unknown()"
    )


def _answers(returns: object) -> bool:
    """Whether every type of a return annotation is one of the three answers."""
    if get_origin(returns) in {Union, types.UnionType}:
        return all(_answers(part) for part in get_args(returns))
    return returns is Any or (get_origin(returns) or returns) in {Done, NotDone, Unknown}
