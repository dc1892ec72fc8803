"""The states of an entry and the one table of their transitions.

Everything that affects an entry's state must be a row of `TRANSITIONS`; a pair that is not in it is an error with a name.
The README's diagram is generated from this table, the contract suite tries every pair on every store, and the in-memory
store is written with `after`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from consumer.entry import State

__all__ = ["TRANSITIONS", "Event", "IllegalTransition", "after", "diagram"]


class Event(enum.Enum):
    """What can happen to an entry; the words of code, SQL, logs and docs."""

    LAND = "land"
    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    DOUBT = "doubt"
    BURY = "bury"
    RELEASE = "release"
    LAPSE = "lapse"
    RESOLVE = "resolve"
    REDRIVE = "redrive"
    COMMIT = "commit"
    REJECT = "reject"
    PURGE = "purge"


class IllegalTransition(ValueError):
    """An event that its entry's state does not permit."""

    def __init__(self, state: State, event: Event, to: State | None = None) -> None:
        aim = "" if to is None else f" to {to.word}"
        super().__init__(f"an entry that is {state.word} does not permit {event.value}{aim}")
        self.state = state
        self.event = event


_S = State
_E = Event

TRANSITIONS: Mapping[tuple[State, Event], tuple[State, ...]] = {
    # a durable write at the way in; what cannot be keyed, or conflicts, is born dead
    (_S.ABSENT, _E.LAND): (_S.RECEIVED,),
    (_S.ABSENT, _E.REJECT): (_S.DEAD,),
    # the claim is the start
    (_S.ABSENT, _E.CLAIM): (_S.RUNNING,),
    (_S.RECEIVED, _E.CLAIM): (_S.RUNNING,),
    (_S.WAITING, _E.CLAIM): (_S.RUNNING,),
    # the holder of the token settles
    (_S.RUNNING, _E.COMPLETE): (_S.DONE,),
    (_S.RUNNING, _E.RETRY): (_S.WAITING, _S.DEAD),  # dead when the budget is spent
    (_S.RUNNING, _E.DOUBT): (_S.IN_DOUBT,),
    (_S.RUNNING, _E.BURY): (_S.DEAD,),
    (_S.RUNNING, _E.RELEASE): (_S.RECEIVED, _S.WAITING, _S.ABSENT),  # the state before the claim
    # the holder is gone; `on_lapse` in the row decides, a spent budget buries
    (_S.RUNNING, _E.LAPSE): (_S.IN_DOUBT, _S.WAITING, _S.DEAD),
    # somebody knows the outcome: an operator, `reconcile`, or the same token, late
    (_S.IN_DOUBT, _E.RESOLVE): (_S.DONE, _S.WAITING, _S.DEAD),
    (_S.IN_DOUBT, _E.COMPLETE): (_S.DONE,),
    (_S.IN_DOUBT, _E.RETRY): (_S.WAITING, _S.DEAD),
    (_S.IN_DOUBT, _E.BURY): (_S.DEAD,),
    (_S.DEAD, _E.REDRIVE): (_S.WAITING,),
    # a group's transaction: nobody ever sees it running
    (_S.ABSENT, _E.COMMIT): (_S.DONE,),
    (_S.RECEIVED, _E.COMMIT): (_S.DONE,),
    (_S.WAITING, _E.COMMIT): (_S.DONE,),
    (_S.RUNNING, _E.COMMIT): (_S.DONE,),  # alone: claimed in a short transaction before
    (_S.DONE, _E.PURGE): (_S.ABSENT,),
}
"""(state, event) to the states that may follow; where there are several, the first is the usual one."""


def after(state: State, event: Event, to: State | None = None) -> State:
    """Return the state that follows.

    Args:
        state: the entry's state.
        event: what happens.
        to: which of several, where the table leaves a choice; default: the first.

    Raises:
        IllegalTransition: the table has no such row.
    """
    choices = TRANSITIONS.get((state, event))
    if not choices or (to is not None and to not in choices):
        raise IllegalTransition(state, event, to)
    return choices[0] if to is None else to


def diagram() -> str:
    """Return the table as a Mermaid state diagram (the README holds it; a test compares)."""
    merged: dict[tuple[State, State], list[str]] = {}
    for (state, event), targets in TRANSITIONS.items():
        for target in targets:
            merged.setdefault((state, target), []).append(event.value)
    lines = ["stateDiagram-v2"]
    for (state, target), events in merged.items():
        start = "[*]" if state is State.ABSENT else state.word
        end = "[*]" if target is State.ABSENT else target.word
        lines.append(f"    {start} --> {end}: {', '.join(events)}")
    return "\n".join(lines)
