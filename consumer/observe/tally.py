"""Counting on the path: a few additions per delivery. Nothing of Prometheus is needed until somebody asks."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable

from consumer.declare.handlers import Handler
from consumer.entry import Landed, Landing, State
from consumer.observe.families import OUTCOMES, Outcome
from consumer.path.keying import mode_name
from consumer.path.parts import Ending, Work

__all__ = ["END_TO_END", "HANDLER", "Counts", "Histogram", "Tally"]

HANDLER = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of `consumer_handler_seconds`, in seconds."""

END_TO_END = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
)
"""Upper bounds of `consumer_end_to_end_seconds`, in seconds."""

_OUTCOME_OF = {
    State.DONE: Outcome.DONE,
    State.WAITING: Outcome.WAITING,
    State.DEAD: Outcome.DEAD,
    State.IN_DOUBT: Outcome.IN_DOUBT,
    State.RUNNING: Outcome.LOST,
    State.ABSENT: Outcome.RELEASED,
}
_PLACES = tuple(int(_OUTCOME_OF.get(state, Outcome.RELEASED)) for state in sorted(State))
"""By state: a tuple, because looking up a member of an enumeration in a dict costs more than all else here."""


class Histogram:
    """Observations by upper bound; the last place is for those above all of them.

    Written by one thread; another one that reads may miss the newest observation, never see a wrong one.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class Counts:
    """What is counted of one handler.

    Attributes:
        mode: its mode's name.
        outcomes: by `Outcome`.
        seconds, end_to_end: the two histograms.
    """

    __slots__ = ("end_to_end", "mode", "outcomes", "seconds")

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.outcomes = [0] * len(OUTCOMES)
        self.seconds = Histogram(HANDLER)
        self.end_to_end = Histogram(END_TO_END)


class Tally:
    """`path.parts.Observer`: counts endings. Every handler's counters are there, at 0, from the start.

    Args:
        handlers: what is declared.
    """

    def __init__(self, handlers: Iterable[Handler]) -> None:
        self.handlers = {handler.name: Counts(mode_name(handler)) for handler in handlers}

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        """See `path.parts.Observer`. A delivery that is in hand and asked about again is counted when it has ended."""
        counts = self.handlers[work.handler.name]
        if ending.duplicate:
            if ending.conflict:
                counts.outcomes[Outcome.CONFLICT] += 1
            elif ending.ack:
                counts.outcomes[Outcome.DUPLICATE] += 1
            return
        state = ending.state
        counts.outcomes[_PLACES[state]] += 1
        counts.seconds.observe(seconds)
        if state is State.DONE:
            taken = work.envelope.message.timestamp
            if taken is not None:
                counts.end_to_end.observe(max(time.time() - taken, 0.0))

    def arrived(self, landing: Landing, landed: Landed) -> None:
        """See `path.parts.Observer`: what is new and alive has not ended yet."""
        counts = self.handlers.get(landing.handler)
        if counts is None:
            return
        if landed is Landed.CONFLICT:
            counts.outcomes[Outcome.CONFLICT] += 1
        elif landed is Landed.DUPLICATE:
            counts.outcomes[Outcome.DUPLICATE] += 1
        elif landing.state is State.DEAD:
            counts.outcomes[Outcome.DEAD] += 1
