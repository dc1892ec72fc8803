"""Whether the store answers, as this process has noticed by its own work: nobody is asked for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from consumer.errors import WritesRefused

__all__ = ["KNOWN_AFTER", "UNWRITTEN_FOR", "Away"]

_log = logging.getLogger("consumer.store")

KNOWN_AFTER = 1.0
"""Seconds of refusals and no answer until the store counts as away: one lost connection is no outage."""

SAY_EVERY = 30.0
"""Seconds between two warnings of one outage."""

CALM = 5.0
"""Seconds after a warning within which another outage is not one yet: a store that answers every other call is said once."""


UNWRITTEN_FOR = 8.0
"""Seconds after a refused write for which an answer to a mere look ends no outage: a full disk, or a lock that somebody holds,
still answers those. Longer than SQLite waits for a lock, so that two refusals in a row are one outage."""


class Away:
    """The mark that every part of the process sets and clears, and the log lines of an outage: its edge, now and then, its end.

    Written by the event loop; any thread may read it.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._unwritten_at: float | None = None
        self._said_at: float | None = None
        self._said = False

    @property
    def seconds(self) -> float:
        """For how many seconds the store has been refusing; 0 where it answers."""
        since = self._since
        return 0.0 if since is None else max(self._clock() - since, 0.0)

    @property
    def known(self) -> bool:
        """Whether it has been away for so long that nothing need be tried for a caller who waits."""
        return self.seconds >= KNOWN_AFTER

    def refused(self, fault: BaseException) -> None:
        """A part of this process has asked the store in vain.

        Args:
            fault: why; named in the log.
        """
        now = self._clock()
        if isinstance(fault, WritesRefused):
            self._unwritten_at = now
        if self._since is None:
            self._since = now
        if self._said_at is not None and now - self._said_at < (SAY_EVERY if self._said else CALM):
            return
        if self._said:
            _log.warning("the store has not answered for %.0f s, nothing starts: %s", self.seconds, fault)
        else:
            _log.warning("the store does not answer, nothing starts: %s", fault)
        self._said, self._said_at = True, now

    def answered(self, *, wrote: bool = True) -> None:
        """A part of this process has got an answer.

        Args:
            wrote: the store has taken a write with it.
        """
        if self._since is None:
            return
        if not wrote and self._takes_no_write():
            return
        if self._said:
            _log.warning("the store answers again, after %.1f s", self.seconds)
        self._since = self._unwritten_at = None
        self._said = False

    def _takes_no_write(self) -> bool:
        return self._unwritten_at is not None and self._clock() - self._unwritten_at < UNWRITTEN_FOR
