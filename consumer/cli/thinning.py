"""How many log lines of one kind are written a second: a handler that fails at every message must not fill a disk."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PER_SECOND", "Thinning"]

PER_SECOND = 20
"""Lines of one kind that are written in full within a second."""


class Thinning:
    """Counts what is left out, kind by kind.

    Args:
        clock: seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """Ask for one line.

        Args:
            kind: few: the counts are kept for ever.

        Returns:
            How many were left out since the last second that had one, which the line should say; `None`: leave it out.
        """
        now = self._clock()
        began, asked = self._windows.get(kind, (now, 0))
        if now - began < 1:
            self._windows[kind] = (began, asked + 1)
            return 0 if asked < PER_SECOND else None
        self._windows[kind] = (now, 1)
        return max(asked - PER_SECOND, 0)
