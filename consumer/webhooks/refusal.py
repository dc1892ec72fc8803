"""The way out of reading a hostile request: raised in this package, caught where `verify` ends, seen by nobody else."""

from __future__ import annotations

from consumer.webhooks.values import Reason

__all__ = ["Refusal"]


class Refusal(Exception):
    """The request is refused.

    Args:
        reason: the class, which decides the status.
        text: for the log; it must hold no value from the request.
    """

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
