"""The three modes, and the one table of what each makes of an attempt's outcome. The mode is the product.

The table is data: the README's promise table and `consumer explain` are generated from it, and every cell is tested.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from consumer.rules.backoff import Backoff

__all__ = [
    "MODES",
    "AtLeastOnce",
    "AtMostOnce",
    "Decision",
    "Mode",
    "Outcome",
    "Rules",
    "Transactional",
    "Verb",
    "decide",
]


class Transactional(msgspec.Struct, frozen=True):
    """Per key at most one attempt's database changes commit, with result and outgoing messages, in one commit.

    What the handler does outside the database may repeat: a neighbour's failure re-runs it. SQL stores only.

    Args:
        retry: how often and when it is run again after a failure, before it becomes a dead letter.
    """

    retry: Backoff = Backoff()

    def __repr__(self) -> str:
        return "Transactional()" if self.retry == Backoff() else f"Transactional(retry={self.retry!r})"


class AtMostOnce(msgspec.Struct, frozen=True):
    """Started at most once per key, unless `reconcile` or an operator permits another start.

    Args:
        reconcile: asked what became of an attempt whose outcome is not known: `async (ctx, resources...) ->
            Done | NotDone | Unknown`. Without it a doubt waits for a person.
    """

    reconcile: Callable[..., Any] | None = None

    @property
    def retry(self) -> Backoff:
        """The budget of attempts that *declare* no effect by `Retry`."""
        return _DECLARED

    def __repr__(self) -> str:
        return (
            "AtMostOnce()" if self.reconcile is None else f"AtMostOnce(reconcile={self.reconcile.__name__})"
        )


_DECLARED = Backoff()


class AtLeastOnce(msgspec.Struct, frozen=True):
    """Started until it reports success or is dead; attempts may overlap.

    Args:
        retry: how often and when it is started again after a failure.
    """

    retry: Backoff = Backoff()

    def __repr__(self) -> str:
        return "AtLeastOnce()" if self.retry == Backoff() else f"AtLeastOnce(retry={self.retry!r})"


Mode = Transactional | AtMostOnce | AtLeastOnce


class Outcome(enum.Enum):
    """How an attempt ended, as far as the runtime can see."""

    RETURNED = "returned"
    RETRY = "Retry"
    REJECT = "Reject"
    RAISED = "anything else raised"
    TIMED_OUT = "time-out"
    CRASHED = "crash"


class Verb(enum.Enum):
    """What is done about it."""

    COMPLETE = "done"
    RETRY = "waiting"
    BURY = "dead"
    DOUBT = "in doubt"


class Decision(msgspec.Struct, frozen=True):
    """A cell of the table.

    Attributes:
        verb: what the entry becomes (`RETRY` buries when the budget is spent).
        text: the cell for people.
    """

    verb: Verb
    text: str


class Rules(msgspec.Struct, frozen=True):
    """A row of the table: one mode.

    Attributes:
        name: the mode's name.
        promise: what is promised, for people.
        in_transaction: the handler's database changes share the entry's commit, and are rolled back with it.
        outcomes: a decision per outcome.
    """

    name: str
    promise: str
    in_transaction: bool
    outcomes: Mapping[Outcome, Decision]


MODES: Mapping[type, Rules] = {
    Transactional: Rules(
        name="Transactional",
        promise="per key at most one attempt's database changes commit, with result and outgoing messages, in one commit",
        in_transaction=True,
        outcomes={
            Outcome.RETURNED: Decision(Verb.COMPLETE, "done"),
            Outcome.RETRY: Decision(Verb.RETRY, "rolled back, waiting"),
            Outcome.REJECT: Decision(Verb.BURY, "rolled back, dead"),
            Outcome.RAISED: Decision(Verb.RETRY, "rolled back, retried by `retry`, then dead"),
            Outcome.TIMED_OUT: Decision(Verb.RETRY, "rolled back, retried by `retry`, then dead"),
            Outcome.CRASHED: Decision(Verb.RETRY, "rolled back, delivered again"),
        },
    ),
    AtMostOnce: Rules(
        name="AtMostOnce",
        promise="started at most once per key, unless `reconcile` or an operator permits another start",
        in_transaction=False,
        outcomes={
            Outcome.RETURNED: Decision(Verb.COMPLETE, "done"),
            Outcome.RETRY: Decision(Verb.RETRY, "waiting"),
            Outcome.REJECT: Decision(Verb.BURY, "dead"),
            Outcome.RAISED: Decision(Verb.DOUBT, "in doubt"),
            Outcome.TIMED_OUT: Decision(Verb.DOUBT, "in doubt"),
            Outcome.CRASHED: Decision(Verb.DOUBT, "in doubt"),
        },
    ),
    AtLeastOnce: Rules(
        name="AtLeastOnce",
        promise="started until it reports success or is dead; attempts may overlap",
        in_transaction=False,
        outcomes={
            Outcome.RETURNED: Decision(Verb.COMPLETE, "done"),
            Outcome.RETRY: Decision(Verb.RETRY, "waiting"),
            Outcome.REJECT: Decision(Verb.BURY, "dead"),
            Outcome.RAISED: Decision(Verb.RETRY, "retried by `retry`, then dead"),
            Outcome.TIMED_OUT: Decision(Verb.RETRY, "retried by `retry`, then dead"),
            Outcome.CRASHED: Decision(Verb.RETRY, "another worker, higher token"),
        },
    ),
}


def decide(mode: Mode, outcome: Outcome) -> Verb:
    """Return what `mode` makes of `outcome`."""
    return MODES[type(mode)].outcomes[outcome].verb
