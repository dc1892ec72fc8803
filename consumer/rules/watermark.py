"""How far a partition may be acknowledged: contiguous and monotone, within one assignment of it.

Offsets have holes (compaction, transactions), so the mark never waits for an offset that did not arrive: it stands behind
the last delivered offset below which everything delivered is acknowledged.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Watermark"]


class Watermark:
    """The deliveries in hand of one partition in one assignment epoch."""

    __slots__ = ("_acked", "_order", "position")

    def __init__(self, position: int | None = None) -> None:
        """Start at `position`: the next offset to commit when nothing was delivered yet (`None`: not known)."""
        self.position = position
        self._order: deque[int] = deque()
        self._acked: set[int] = set()

    def delivered(self, offset: int) -> None:
        """Take an offset in hand; offsets come in rising order.

        Raises:
            ValueError: it is not above the last one.
        """
        if self._order and offset <= self._order[-1]:
            raise ValueError(f"offset {offset} delivered after {self._order[-1]}")
        self._order.append(offset)

    def acked(self, offset: int) -> bool:
        """Mark an offset; return whether the position has moved. An offset that is not in hand changes nothing."""
        if not self._order or offset < self._order[0]:
            return False
        self._acked.add(offset)
        moved = False
        while self._order and self._order[0] in self._acked:
            first = self._order.popleft()
            self._acked.discard(first)
            self.position = first + 1
            moved = True
        return moved

    @property
    def first(self) -> int | None:
        """The first unfinished offset; `None` where nothing is in hand."""
        return self._order[0] if self._order else None

    @property
    def in_hand(self) -> int:
        """How many deliveries lie between the mark and the newest one, acknowledged ones included: the gap."""
        return len(self._order)
