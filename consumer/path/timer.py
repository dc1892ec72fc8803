"""The time-outs of all attempts of a process, with one timer: a timer per attempt costs more than all else in an attempt."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Any, Self

__all__ = ["Limit", "Timer"]


class Timer:
    """Cancels the tasks whose limit is over.

    It rings for the limit that is over first. Those that end before leave it as it is, so it is set anew once in a
    time-out and not once an attempt.
    """

    def __init__(self) -> None:
        self._limits: set[Limit] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def limit(self, task: asyncio.Task[Any], seconds: float) -> Limit:
        """Return a time-out for a block that `task` runs: `with timer.limit(task, 30):`, as `asyncio.timeout` does it."""
        return Limit(self, task, seconds)

    def watch(self, limit: Limit) -> None:
        """Ring when `limit` is over, at the latest."""
        self._limits.add(limit)
        if limit.over_at < self._rings_at:
            if self._handle is not None:
                self._handle.cancel()
            self._rings_at = limit.over_at
            self._handle = asyncio.get_running_loop().call_at(limit.over_at, self._ring)

    def forget(self, limit: Limit) -> None:
        """The block of `limit` is left."""
        self._limits.discard(limit)

    def _ring(self) -> None:
        self._rings_at = math.inf
        watched, self._limits = self._limits, set()
        now = asyncio.get_running_loop().time()
        for limit in watched:
            if limit.over_at <= now:
                limit.expire()
            else:
                self.watch(limit)


class Limit:
    """One time-out; see `Timer.limit`.

    Attributes:
        over_at: when it is over, by the loop's clock; set on entry.
        expired: it was over before the block was left.

    Raises:
        TimeoutError: at the end of the block, in the stead of the cancellation that the time-out was.
    """

    __slots__ = ("_cancelling", "_seconds", "_task", "_timer", "expired", "over_at")

    def __init__(self, timer: Timer, task: asyncio.Task[Any], seconds: float) -> None:
        self._timer = timer
        self._task = task
        self._seconds = seconds
        self._cancelling = 0
        self.over_at = math.inf
        self.expired = False

    def __enter__(self) -> Self:
        self._cancelling = self._task.cancelling()
        self.over_at = asyncio.get_running_loop().time() + self._seconds
        self._timer.watch(self)
        return self

    def expire(self) -> None:
        """The time is over: ask the block to stop."""
        self.expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.forget(self)
        # Cancelled by somebody else too: then the cancellation is more than a time-out, and goes on.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
