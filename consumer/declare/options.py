"""The options of `@app.on(…)`, once: their types, their defaults, and what is wrong with a value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Required, TypedDict

from consumer.declare.complaints import did_you_mean
from consumer.declare.keyrules import Key, KeyLike
from consumer.rules.backoff import Backoff
from consumer.rules.modes import AtLeastOnce, AtMostOnce, Mode, Transactional

__all__ = ["Options", "mode_text", "number_faults", "presence_fault"]


class Options(TypedDict, total=False):
    """Keyword arguments of `Handlers.on` and `App.on`; `key` and `mode` are required, the mode is the product.

    Attributes:
        key: what names the operation: a rule of `Key`, or a function of the payload.
        mode: `Transactional()`, `AtMostOnce()` or `AtLeastOnce()`.
        name: part of every key's identity, so never change it; default: the topic.
        same: the fields that make two payloads of one key the same; default: the raw bytes.
        tenant: whose key space a message is in; default: `public`, always.
        ordered: messages of one ordering key are run one at a time, in the order of their arrival, and wait behind one that
            is retried or in doubt. `True`: by the Kafka record key, or what `publish(ordering_key=…)` names; messages
            without one have no order. Or a rule of `Key`, which every message must have.
        timeout: of one attempt, in seconds or as a timedelta; default 30.
        retention: how long a done key is remembered; default 14 days.
        concurrency: at most so many messages of the handler at once in one process; default: as many as there are slots, or
            for a Transactional handler as the store has connections for groups. Direct calls are not counted.
        batch: how many messages one call may take; the first parameter is then `Batch[T]`.
    """

    key: Required[KeyLike]
    mode: Required[Mode]
    name: str | None
    same: Sequence[str] | None
    tenant: KeyLike | None
    ordered: bool | KeyLike
    timeout: float | timedelta
    retention: timedelta
    concurrency: int | None
    batch: int | None


LARGEST_BATCH = 500
"""Messages of the largest batch: a group has no more."""

_MODES = (Transactional, AtMostOnce, AtLeastOnce)


def presence_fault(options: Mapping[str, Any]) -> str | None:
    """Return what is wrong with which options are there, and with the kind of `key=` and `mode=`; else `None`."""
    for name in options:
        if name not in Options.__annotations__:
            return f"there is no option {name}={did_you_mean(name, Options.__annotations__)}"
    if options.get("key") is None:
        return 'key= is missing; it says which messages are one operation: key=Key.field("payment_id")'
    mode = options.get("mode")
    if mode is None:
        return "mode= is missing; it is the promise: mode=Transactional(), AtMostOnce() or AtLeastOnce()"
    if isinstance(mode, type) and mode in _MODES:
        return f"mode={mode.__name__} is a class; write mode={mode.__name__}()"
    if not isinstance(mode, _MODES):
        return f"mode={mode!r} is no mode; there are Transactional(), AtMostOnce() and AtLeastOnce()"
    retry: Any = mode.retry
    if not isinstance(retry, Backoff):
        return f"mode={type(mode).__name__}(retry={retry!r}): write retry=Backoff(5)"
    ordered = options.get("ordered", False)
    return (
        _rule_fault("key", options["key"])
        or _rule_fault("tenant", options.get("tenant"))
        or _rule_fault("ordered", None if isinstance(ordered, bool) else ordered)
    )


def number_faults(options: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the other options, or `None`."""
    timeout = seconds(options.get("timeout", 30))
    if not 0 < timeout < math.inf:
        return f"timeout={options['timeout']!r}: must be more than 0 seconds"
    retention = options.get("retention", timedelta(days=14))
    if not isinstance(retention, timedelta):
        return f"retention={retention!r}: write a timedelta: retention=timedelta(days=14)"
    if retention <= timedelta(0):
        return (
            f"retention={retention!r}: must be more than 0; a key that is forgotten at once protects nothing"
        )
    concurrency = options.get("concurrency")
    if concurrency is not None and (not _is_int(concurrency) or concurrency < 1):
        return f"concurrency={concurrency!r}: must be a whole number of attempts, 1 or more"
    batch = options.get("batch")
    if batch is not None and (not _is_int(batch) or not 1 <= batch <= LARGEST_BATCH):
        return f"batch={batch!r}: must be a whole number of messages, 1 to {LARGEST_BATCH}"
    return None


def seconds(value: object) -> float:
    """Return a number of seconds; NaN for what is none."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def mode_text(mode: Mode) -> str:
    """Return a mode as it is written, its function's name included, whatever that function is."""
    if isinstance(mode, AtMostOnce) and mode.reconcile is not None:
        return f"AtMostOnce(reconcile={getattr(mode.reconcile, '__name__', '…')})"
    return repr(mode)


def _rule_fault(option: str, rule: Any) -> str | None:
    if rule is None:
        return None
    if isinstance(rule, str):
        return (
            f"{option}={rule!r} is text; write {option}=Key.field({rule!r}) or {option}=Key.header({rule!r})"
        )
    if any(rule is made for made in (Key, Key.record, Key.cloudevent, Key.position, Key.field, Key.header)):
        return f"{option}={rule.__qualname__} is not called; write {option}={rule.__qualname__}(…)"
    if isinstance(rule, type):  # `str` has a method `find`, and would pass for a rule
        return (
            f"{option}={rule.__qualname__} is a class; write {option}=Key.field(…), or a function of the payload"
            " that returns text or bytes"
        )
    if not callable(rule) and not hasattr(rule, "find"):
        return f"{option}={rule!r} is neither a rule of Key nor a function of the payload"
    return None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
