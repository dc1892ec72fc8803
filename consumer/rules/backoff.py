"""How long to wait before the next attempt."""

from __future__ import annotations

from datetime import timedelta

from consumer.errors import RegistrationError

__all__ = ["Backoff"]


class Backoff:
    """A budget of attempts and the delays between them: `first * factor ** (attempt - 1)`, at most `longest`.

    Args:
        attempts: how many attempts there are in all; after the last one the entry is a dead letter.
        first: seconds (or a timedelta) after the first attempt.
        factor: by which each delay is longer than the one before.
        longest: the greatest delay, in seconds or as a timedelta.

    Raises:
        RegistrationError: a number is out of its range; the text names it, and the range.
    """

    __slots__ = ("attempts", "factor", "first", "longest")

    def __init__(
        self,
        attempts: int = 5,
        *,
        first: float | timedelta = 1,
        factor: float = 2,
        longest: float | timedelta = 300,
    ) -> None:
        self.attempts = attempts
        self.first = _seconds(first)
        self.factor = float(factor)
        self.longest = _seconds(longest)
        if not 1 <= attempts <= _MOST_ATTEMPTS:
            raise RegistrationError(
                f"Backoff(attempts={attempts}): the first attempt counts, so 1 to {_MOST_ATTEMPTS} are allowed; "
                "write attempts=1 for no second one"
            )
        if not 0 <= self.first <= self.longest:
            raise RegistrationError(
                f"Backoff(first={self.first:g}, longest={self.longest:g}): seconds, and 0 <= first <= longest is needed"
            )
        if not self.factor >= 1:
            raise RegistrationError(
                f"Backoff(factor={factor}): must be 1 or more; write factor=1 for equal delays"
            )

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt` (from 1)."""
        if self.first == 0:
            return 0.0
        # Step by step, and left at the longest: `factor ** attempt` would overflow a float.
        delay = self.first
        for _ in range(attempt - 1):
            delay *= self.factor
            if delay >= self.longest or self.factor == 1:
                break
        return min(delay, self.longest)

    def __repr__(self) -> str:
        return f"Backoff({self.attempts}, first={self.first:g}, factor={self.factor:g}, longest={self.longest:g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backoff) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


_MOST_ATTEMPTS = 32_000  # the row keeps the count in a smallint


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
