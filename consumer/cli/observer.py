"""Every ending as a log line, and on a terminal as a line for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from consumer.cli.output import printable
from consumer.cli.thinning import Thinning
from consumer.entry import Landed, Landing, State
from consumer.operate.shown import key_text
from consumer.path.fields import fields_of, trace_id
from consumer.path.parts import Ending, Work

__all__ = ["Watcher", "line_of", "trace_id"]

_log = logging.getLogger("consumer.endings")

_WORDS = {State.IN_DOUBT: "in doubt"}


class Watcher:
    """`path.parts.Observer`: logs endings, and says them.

    Dead, in doubt and conflict are logged as warnings, waiting as info, done and duplicates as debug: what goes well is
    counted elsewhere. Of a handler's lines that are info, the first twenty of a second are; the others are debug, and the
    next one says how many they were: the counters and each entry's story have them all. Warnings are all written.

    Args:
        say: given a line per delivery; `None`: nobody looks.
        log: log them; not where the same people see the lines on the same terminal.
        thinning: bounds the lines that are info.
    """

    def __init__(
        self,
        say: Callable[[str], None] | None = None,
        *,
        log: bool = True,
        thinning: Thinning | None = None,
    ) -> None:
        self._say = say
        self._log = log
        self._thinning = thinning or Thinning()

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        """See `path.parts.Observer`."""
        level = _level(ending)
        loud = self._log and _log.isEnabledFor(level)
        if not loud and self._say is None:
            return
        if work.asked and ending.state is State.RUNNING:
            return  # it runs elsewhere and is asked about again and again: said once
        what = _what(work, ending, seconds)
        if loud:
            self._write(level, work, ending, what)
        if self._say is not None:
            self._say(line_of(work, ending, seconds))

    def _write(self, level: int, work: Work, ending: Ending, what: str) -> None:
        name = work.handler.name
        left_out = self._thinning.admit(name) if level == logging.INFO else 0
        if left_out is None:
            level = logging.DEBUG
            if not _log.isEnabledFor(level):
                return
        elif left_out:
            what += f" (and {left_out} more such lines of this handler, at debug)"
        _log.log(level, "%s: %s", name, what, extra={"fields": _fields(work, ending)})

    def arrived(self, landing: Landing, landed: Landed) -> None:
        """See `path.parts.Observer`: whoever lands says so itself."""


def line_of(work: Work, ending: Ending, seconds: float) -> str:
    """Return a delivery's line for a terminal: `p-1 done 4 ms`, `p-2 waiting 2 s, 2 of 5`."""
    return f"{printable(key_text(work.envelope.key))} {_what(work, ending, seconds)}"


def _what(work: Work, ending: Ending, seconds: float) -> str:
    because = f": {printable(ending.reason)}" if ending.reason else ""
    if ending.conflict:
        # A caller that waits is told itself, and nothing is stored.
        return f"conflict, {'a dead letter' if ending.ack else 'refused'}{because}"
    word = _WORDS.get(ending.state, ending.state.word)
    if ending.duplicate:
        return f"duplicate of {word}"
    match ending.state:
        case State.DONE:
            return f"done {seconds * 1000:.0f} ms"
        case State.WAITING:
            budget = work.handler.mode.retry.attempts
            return f"waiting {ending.delay or 0:g} s, {ending.attempt} of {budget}{because}"
        case State.RUNNING | State.ABSENT:
            return f"not settled{because}"
        case _:
            return f"{word}{because}"


def _level(ending: Ending) -> int:
    if ending.conflict:
        return logging.WARNING if ending.ack else logging.INFO
    if ending.duplicate or ending.state is State.DONE:
        return logging.DEBUG
    return logging.INFO if ending.state in {State.WAITING, State.ABSENT} else logging.WARNING


def _fields(work: Work, ending: Ending) -> dict[str, Any]:
    envelope = work.envelope
    return fields_of(
        work.handler.name,
        envelope.tenant,
        envelope.key,
        ending.state,
        attempt=ending.attempt,
        message=envelope.message,
    )
