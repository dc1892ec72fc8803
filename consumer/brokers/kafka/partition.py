"""One partition in one assignment epoch: what is in hand of it, and how far it may be committed."""

from __future__ import annotations

from collections import deque

from aiokafka.structs import TopicPartition

from consumer.message import Delivery
from consumer.rules.watermark import Watermark

__all__ = ["COUNTED", "Partition", "Receipt"]

COUNTED = 1024
"""Bytes from which on a delivery is counted in `Partition.held`: smaller ones are bounded by their number."""


class Partition:
    """A partition from its assignment until it is given up. When it is assigned again, that is another `Partition`.

    Attributes:
        tp: topic and number.
        epoch: counts assignments; for logs.
        watermark: the deliveries in hand.
        held: bytes of the deliveries in hand that are not acknowledged; small ones are not counted.
        committed: the offset that this object has committed, -1 before the first time.
        live: it was not given up since. An acknowledgement after that changes nothing.
        newest: the offset delivered last, -1 before the first.
        rescued: read on a path of their own (`rescue`), and not delivered yet; they come before what is read next.
        singly: records are asked for one by one, to get at those before one that cannot be parsed.
        trouble: why it is not read now, for people; empty where nothing is wrong.
        retry_at: when to try again (monotonic seconds), where there is trouble.
        behind_since: when it was first seen that something waits in the broker and nothing is in hand (seconds since
            1970); `None` where that is not so.
    """

    __slots__ = (
        "_sizes",
        "_stamps",
        "behind_since",
        "committed",
        "epoch",
        "held",
        "live",
        "newest",
        "rescued",
        "retry_at",
        "singly",
        "tp",
        "trouble",
        "watermark",
    )

    def __init__(self, tp: TopicPartition, epoch: int) -> None:
        self.tp = tp
        self.epoch = epoch
        self.watermark = Watermark()
        self.held = 0
        self._sizes: dict[int, int] = {}
        self.committed = -1
        self.live = True
        self.newest = -1
        self.rescued: deque[Delivery] = deque()
        self.singly = False
        self.trouble = ""
        self.retry_at = 0.0
        self.behind_since: float | None = None
        self._stamps: deque[tuple[int, float]] = deque()

    def delivered(self, offset: int, size: int) -> None:
        """Take a delivery of `size` bytes in hand.

        Raises:
            ValueError: it is in hand already.
        """
        self.watermark.delivered(offset)
        if size >= COUNTED:
            self._sizes[offset] = size
            self.held += size

    def acked(self, offset: int) -> bool:
        """A delivery need not come again: its bytes are not ours any more. Return whether the position has moved."""
        if self._sizes:
            self.held -= self._sizes.pop(offset, 0)
        return self.watermark.acked(offset)

    def stamp(self, offset: int, timestamp: float) -> None:
        """Note the broker's time (seconds since 1970) of the first record of a batch that was taken in hand."""
        self._stamps.append((offset, timestamp))
        self._forget_stamps()

    @property
    def oldest(self) -> float | None:
        """The broker's time of the first unfinished delivery, or of the first of its batch; `None`: none is in hand."""
        self._forget_stamps()
        return self._stamps[0][1] if self._stamps and self.watermark.first is not None else None

    def _forget_stamps(self) -> None:
        first = self.watermark.first
        while len(self._stamps) > 1 and (first is None or self._stamps[1][0] <= first):
            self._stamps.popleft()

    def to_commit(self) -> int | None:
        """Return the offset to commit, or `None` where it has not moved. It never goes back."""
        position = self.watermark.position
        if not self.live or position is None or position <= self.committed:
            return None
        return position

    def __str__(self) -> str:
        return f"{self.tp.topic}/{self.tp.partition}"


Receipt = tuple[Partition, int]
"""What a delivery needs to be acknowledged: its partition in its epoch, and its offset."""
