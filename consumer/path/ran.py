"""What a group has run: who had a turn in the open transaction, and until when the next one may have its own."""

from __future__ import annotations

import msgspec

from consumer.entry import Settle, Won
from consumer.path.attempt import Verdict

__all__ = ["TIME_BOX", "Ran"]

TIME_BOX = 0.05
"""Seconds after which no further handler of a group starts: its locks and its transaction stay short."""


class Ran(msgspec.Struct, gc=False):
    """A message whose handler returned inside the open group, or was marked by it.

    Attributes:
        index: its place among the works of the group.
        won: its claim.
        verdict: how its attempt ended.
        settle: the write that follows from it.
    """

    index: int
    won: Won
    verdict: Verdict
    settle: Settle
