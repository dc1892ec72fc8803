"""When a process has died without saying goodbye, the next deliveries run alone: one of them may be what killed it.

Caution lasts while another worker of the app is open but gives no sign of life. If it turns out to be alive, as every new
one does within two looks, that was all. If it is found lapsed, or is gone without having been seen alive, there is an alarm:
caution lasts until every partition has moved past the in-hand limit and the due entries were drained once: by then the
killer, if there is one, has had its attempt counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumer.path.parts import Work
from consumer.ports.workers import Workers

__all__ = ["Caution"]

SILENT_LOOKS = 2
"""Looks without a fresh sign of life after which a living worker is suspect: beats and looks come equally often, so a look
may fall between two beats."""


class Caution:
    """Decides whether a Transactional delivery must run alone.

    Args:
        in_hand_limit: deliveries a partition may have in hand.
        brokered: deliveries also come from a broker, in partitions.
    """

    def __init__(self, in_hand_limit: int, *, brokered: bool) -> None:
        self._brokered = brokered
        self._limit = in_hand_limit
        self._beats: dict[int, float] = {}
        self._silent: dict[int, int] = {}
        self._suspect = False
        self._left: dict[str, int] = {}
        self._alarmed = False
        self._due_drained = True

    async def look(
        self, workers: Workers, me: int, *, unclean: bool, before: Mapping[int, float] | None = None
    ) -> None:
        """Compare the other workers' signs of life with those seen before.

        Args:
            workers: the store's.
            me: this process' worker.
            unclean: a lapsed worker was found since the last look.
            before: `Workers.others` as they were just before the lapsed were closed: one that had claimed nothing when
                it died (its group was rolled back) is in no list of the unclean, and this is the last trace of it.
        """
        others = await workers.others(me)
        vanished = {w for w in self._beats.keys() - others.keys() if self._is_silent(w)}
        vanished |= (before or {}).keys() - others.keys()
        self._silent = {w: self._silence(w, beat) for w, beat in others.items()}
        self._beats = others
        self._suspect = any(self._is_silent(w) for w in others)
        if unclean or vanished:
            self._alarmed = True
            self._due_drained = False
            self._left.clear()

    def careful(self, work: Work) -> bool:
        """Whether this delivery must run alone; counts it."""
        if self._suspect:
            return True
        if not self._alarmed:
            return False
        partition = (work.envelope.message.position or "").rpartition("/")[0]
        left = self._left.setdefault(partition, self._limit) - 1
        self._left[partition] = left
        if left <= 0 and self._due_drained and all(n <= 0 for n in self._left.values()):
            self._alarmed = False
        return left >= 0

    @property
    def careful_with_due(self) -> bool:
        """Whether due entries must run alone."""
        return self._suspect or (self._alarmed and not self._due_drained)

    def drained(self) -> None:
        """The due entries were all taken once."""
        if not self._suspect:
            self._due_drained = True
            self._alarmed = self._alarmed and self._brokered

    def _silence(self, worker: int, beat: float) -> int:
        """Return for how many looks a worker has given no fresh sign of life; one that is new has given none yet."""
        if worker not in self._beats:
            return SILENT_LOOKS
        return 0 if beat > self._beats[worker] else self._silent[worker] + 1

    def _is_silent(self, worker: int) -> bool:
        return self._silent.get(worker, SILENT_LOOKS) >= SILENT_LOOKS
