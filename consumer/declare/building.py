"""From a function and its options to a `Handler`, or to the error that says what to mend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from consumer.declare.batch import item_type
from consumer.declare.complaints import complaint, listed, type_name, where_of
from consumer.declare.context import Context
from consumer.declare.handler import Handler
from consumer.declare.keyrules import FieldRule, FunctionRule, HeaderRule, KeyRule, rule_of
from consumer.declare.names import check_topic, name_fault
from consumer.declare.options import mode_text, number_faults, presence_fault, seconds
from consumer.declare.payload import decoder_of, foreign_type, key_fault, same_fault
from consumer.declare.reconcile import read_reconcile
from consumer.declare.signature import Asks, asks_of
from consumer.declare.tx import Tx
from consumer.rules.modes import MODES, AtMostOnce, Mode

__all__ = ["build"]


def build(
    function: Callable[..., Any],
    topics: Sequence[object],
    options: Mapping[str, Any],
    local: Mapping[str, Any],
) -> Handler:
    """Validate a declaration.

    Args:
        function: the user's.
        topics: as given to `on`.
        options: as given to `on`; see `Options`.
        local: the names of the place of declaration.

    Raises:
        RegistrationError: something is wrong; the text says where, what, and the mend.
    """
    where = where_of(function)
    if not callable(function):
        raise complaint(where, "is no function; put @app.on(…) above an `async def`")
    _refuse(where, presence_fault(options))
    _refuse(where, number_faults(options))
    name, names = _names(where, topics, options.get("name"))
    _check_async(where, function)
    asks = asks_of(function, payload=True, local=local)
    batch: int | None = options.get("batch")
    kind = item_type(asks.payload)
    _refuse(where, _batch_fault(asks, kind, batch))
    if kind is not None:
        asks = msgspec.structs.replace(asks, payload=kind)
    decoder = None if asks.payload is bytes else decoder_of(asks.payload)
    if isinstance(decoder, str):
        raise complaint(where, decoder)
    mode: Mode = options["mode"]
    _check_asks(where, asks, mode)
    key = _rule(where, "key", rule_of(options["key"]), asks.payload)
    tenant = options.get("tenant")
    same = options.get("same")
    if same is not None:
        _refuse(where, same_fault(asks.payload, same))
    concurrency: int | None = options.get("concurrency")
    ordered: Any = options.get("ordered") or False
    return Handler(
        name=name,
        topics=names,
        mode=mode,
        timeout=seconds(options.get("timeout", 30)),
        retention=options.get("retention", timedelta(days=14)),
        concurrency=concurrency,
        ordered=ordered is not False,
        order=None if isinstance(ordered, bool) else _rule(where, "ordered", rule_of(ordered), asks.payload),
        batch=batch,
        same=None if same is None else tuple(same),
        function=function,
        where=where,
        asks=asks,
        key=key,
        tenant=None if tenant is None else _rule(where, "tenant", rule_of(tenant), asks.payload),
        decoder=decoder,
        reconcile_asks=_reconcile(mode, local),
        named=options.get("name") is not None,
        ways_in=[f"topic {topic}" for topic in names],
    )


def _batch_fault(asks: Asks, kind: Any, batch: int | None) -> str | None:
    if batch is None:
        return (
            None if kind is None else "takes a Batch, so it needs batch=N: how many messages one call may get"
        )
    if kind is None:
        return f"batch={batch}: its first parameter must be a batch: Batch[{type_name(asks.payload)}]"
    if Context in asks.kinds:
        return "asks for Context; in a batch every item has its own: item.ctx"
    if asks.returns not in {inspect.Signature.empty, None, type(None)}:
        return "returns something; a batch has no result: mark items with item.retry() or item.reject(…), and return None"
    return None


def _refuse(where: str, fault: str | None) -> None:
    if fault is not None:
        raise complaint(where, fault)


def _names(where: str, topics: Sequence[object], name: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the handler's name and its topics."""
    found: list[str] = []
    for topic in topics:
        if not isinstance(topic, str):
            raise complaint(
                where, f'{topic!r} is no topic; write the topics first: @app.on("payments.requested", key=…)'
            )
        try:
            check_topic(topic)
        except ValueError as fault:
            raise complaint(where, str(fault)) from None
        if topic in found:
            raise complaint(where, f"names the topic {topic!r} twice")
        found.append(topic)
    if name is not None:
        _refuse(where, name_fault(name))
        return name, tuple(found)
    if len(found) != 1:
        has = "no topic" if not found else f"{len(found)} topics ({listed(found)})"
        raise complaint(where, f'has {has}, so it needs a name of its own: name="…", which never changes')
    return found[0], tuple(found)


def _check_async(where: str, function: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(function):
        return
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise complaint(where, "yields; a handler is `async def` and returns once (a resource yields)")
    raise complaint(
        where, "is not async; write `async def`, and `await asyncio.to_thread(…)` around what blocks"
    )


def _check_asks(where: str, asks: Asks, mode: Mode) -> None:
    if Tx in asks.kinds and not MODES[type(mode)].in_transaction:
        raise complaint(
            where, f"asks for Tx, which only mode=Transactional() has (this handler: {mode_text(mode)})"
        )
    if asks.returns is inspect.Signature.empty:
        return
    try:
        foreign = foreign_type(asks.returns)
    except (TypeError, NameError, RecursionError):
        return  # msgspec encodes more than it decodes (a union of structs without tags)
    if foreign is not None and foreign is not object:
        raise complaint(
            where,
            f"returns {type_name(asks.returns)}, but {type_name(foreign)} cannot be stored as JSON; "
            "return a msgspec.Struct, a dataclass, a dict or None",
        )


def _rule(where: str, option: str, rule: KeyRule, payload: Any) -> KeyRule:
    """Check that a rule can find something in such a payload."""
    if isinstance(rule, FieldRule):
        fault = key_fault(payload, rule.path, rule)
        _refuse(where, None if fault is None else f"{option}={fault}")
    elif isinstance(rule, HeaderRule):
        name: Any = rule.name
        if not isinstance(name, str) or not name:
            raise complaint(where, f"{option}={rule!r} needs the name of a header")
    elif isinstance(rule, FunctionRule):
        _check_function(where, option, rule)
    return rule


def _check_function(where: str, option: str, rule: FunctionRule) -> None:
    function = rule.function
    if inspect.iscoroutinefunction(function):
        raise complaint(
            where, f"{option}={rule!r} is async; a key is computed from the payload alone, at once"
        )
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise complaint(where, f"{option}={rule!r} must take the payload, and nothing else") from None
    except ValueError:
        pass  # a builtin without a signature: it will be called, and what it raises makes a dead letter


def _reconcile(mode: Mode, local: Mapping[str, Any]) -> Asks | None:
    if isinstance(mode, AtMostOnce) and mode.reconcile is not None:
        return read_reconcile(mode.reconcile, local)
    return None
