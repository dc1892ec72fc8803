"""A declaration in words, generated from the table of the modes that also decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from consumer.declare.handlers import Handler
from consumer.declare.options import mode_text
from consumer.ports.store import Capabilities
from consumer.rules.backoff import Backoff
from consumer.rules.modes import MODES, AtMostOnce, Outcome

__all__ = ["crash_of", "explain", "promise_of", "reconciles"]


def promise_of(handler: Handler) -> str:
    """Return what the handler's mode promises."""
    return MODES[type(handler.mode)].promise


def crash_of(handler: Handler) -> str:
    """Return what the handler's mode makes of a crash."""
    return MODES[type(handler.mode)].outcomes[Outcome.CRASHED].text


def reconciles(handler: Handler) -> bool:
    """Return whether somebody is asked what became of an attempt in doubt."""
    return isinstance(handler.mode, AtMostOnce) and handler.mode.reconcile is not None


def explain(handler: Handler, capabilities: Capabilities | None = None) -> str:
    """Return a paragraph about one handler.

    Args:
        handler: as declared.
        capabilities: of the store that it will run on; `None`: not known.
    """
    lines = [f"{handler.name}  {mode_text(handler.mode)}  {handler.where}"]
    lines += [f"  {label:<11} {text}" for label, text in _facts(handler)]
    lines += [f"  {'this store':<11} {text}" for text in _store_facts(handler, capabilities)]
    return "\n".join(lines)


def _facts(handler: Handler) -> Sequence[tuple[str, str]]:
    rules = MODES[type(handler.mode)]
    facts = [("promise", rules.promise), ("ways in", ", ".join(handler.ways_in) or "a direct call only")]
    facts += [("key", _key(handler)), ("tenant", _tenant(handler))]
    if handler.ordered:
        facts.append(("order", _order(handler)))
    for outcome in Outcome:
        text = rules.outcomes[outcome].text
        label = {
            Outcome.RAISED: "other error",
            Outcome.TIMED_OUT: "time-out",
            Outcome.RETRY: "Retry",
            Outcome.REJECT: "Reject",
        }.get(outcome, outcome.value)
        facts.append(
            (label, f"after {handler.timeout:g} s: {text}" if outcome is Outcome.TIMED_OUT else text)
        )
    only = "only Retry leads to another: " if isinstance(handler.mode, AtMostOnce) else ""
    facts.append(("attempts", only + _attempts(handler.mode.retry)))
    if isinstance(handler.mode, AtMostOnce):
        asked = (
            "asks its reconcile function"
            if reconciles(handler)
            else "waits for a person: consumer inbox resolve"
        )
        facts.append(("in doubt", asked))
    facts.append(
        ("retention", f"a done key is remembered for {_span(handler.retention)}, then it is a new one")
    )
    return facts


def _key(handler: Handler) -> str:
    if handler.same is None:
        return f"{handler.key!r}; the same key with other bytes is a conflict"
    return f"{handler.key!r}; the same key with another {' or '.join(handler.same)} is a conflict"


def _order(handler: Handler) -> str:
    by = (
        "the record key, or the ordering key that it was published with"
        if handler.order is None
        else repr(handler.order)
    )
    without = "; a message without one has no order" if handler.order is None else ""
    return (
        f"by {by}: one at a time, as they arrived; behind one that waits or is in doubt the others wait,"
        f" a dead one lets them pass{without}"
    )


def _tenant(handler: Handler) -> str:
    return "public, always" if handler.tenant is None else f"{handler.tenant!r}, else public"


def _attempts(retry: Backoff) -> str:
    if retry.attempts == 1:
        return "1"
    delays = [f"{retry.delay(attempt):g}" for attempt in range(1, min(retry.attempts, 5))]
    more = ", …" if retry.attempts > 5 else ""
    return f"at most {retry.attempts}, {', '.join(delays)}{more} s apart, then dead"


def _store_facts(handler: Handler, capabilities: Capabilities | None) -> list[str]:
    if capabilities is None:
        return []
    found = []
    if MODES[type(handler.mode)].in_transaction and not capabilities.transactions:
        found.append("has no transactions: this handler is refused at start")
    if handler.ordered and not capabilities.lanes:
        found.append("keeps no order: this handler is refused at start")
    if not capabilities.durable:
        found.append("forgets everything when the process ends, and the promise with it")
    if capabilities.weakness:
        found.append(capabilities.weakness)
    return found or ["takes nothing away from the promise"]


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
