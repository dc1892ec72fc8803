"""When a process has died without saying goodbye, the next deliveries run alone: one of them may be what killed it.

Whether a worker has died is the store's to say: it ended by a lapse. One that left did so by itself, however soon after it
came and whenever this process looked. After a lapse there is an alarm: caution lasts until every partition has moved past
the in-hand limit and the due entries were drained once: by then the killer, if there is one, has had its attempt counted.

Before the lapse there is suspicion, which ends by itself: of a worker that has fallen silent, and, in a process that has just
started, of every other one until it is seen alive (this process may be the heir of one that died a second ago). One that
comes later is not suspect: while it is new it is careful itself.
"""

from __future__ import annotations

import logging

from consumer.path.parts import Work
from consumer.ports.workers import Workers

__all__ = ["Caution"]

_log = logging.getLogger("consumer.caution")

SILENT_LOOKS = 2
"""Looks without a fresh sign of life after which a living worker is suspect: beats and looks come equally often, so a look
may fall between two beats."""


class Caution:
    """Decides whether a Transactional delivery must run alone.

    Args:
        in_hand_limit: deliveries a partition may have in hand.
        brokered: deliveries also come from a broker, in partitions.

    Attributes:
        alarms: workers whose lapse has made this process careful, those of earlier adopters not counted.
    """

    def __init__(self, in_hand_limit: int, *, brokered: bool) -> None:
        self._brokered = brokered
        self._limit = in_hand_limit
        self._beats: dict[int, float] = {}
        self._silent: dict[int, int] = {}
        self._since = 0
        self._known: set[int] = set()
        self._met = self._looked = False
        self._suspect = False
        self._left: dict[str, int] = {}
        self._alarmed = False
        self._due_drained = True
        self.alarms = 0

    async def meet(self, workers: Workers, me: int) -> None:
        """Learn which lapses are history to this process: before its first `lapse`; without effect afterwards.

        Args:
            workers: the store's.
            me: this process' worker.
        """
        if self._met:
            return
        others = await workers.others(me)
        since = min([*others, me])
        # Who is open at this moment, or comes after us, is no history, whatever becomes of it until the next call.
        self._known = {w for w in await workers.lapsed(since) if w < me} - others.keys()
        self._since, self._met = since, True

    async def look(self, workers: Workers, me: int, *, unclean: bool) -> set[int]:
        """Compare the other workers' signs of life with those seen before, and ask which have lapsed.

        Args:
            workers: the store's.
            me: this process' worker.
            unclean: a lapsed worker was found since the last look that may still hold claims.

        Returns:
            The workers that have lapsed since the last look (since `meet`, the first time).
        """
        await self.meet(workers, me)
        others = await workers.others(me)
        lapsed = await workers.lapsed(self._since)
        dead = lapsed - self._known
        # Numbers rise: whoever is below the lowest that is open has ended, and was judged; nobody need ask about it again.
        self._since = max(self._since, min(others, default=0))
        self._known = {w for w in lapsed if w >= self._since}
        self._silent = {w: self._silence(w, beat) for w, beat in others.items()}
        self._beats = others
        self._looked = True
        self._suspect = any(silent >= SILENT_LOOKS for silent in self._silent.values())
        if dead:
            self.alarms += len(dead)
            _log.warning(
                "worker %s ended without saying goodbye: deliveries of Transactional handlers run alone for a while",
                ", ".join(map(str, sorted(dead))),
            )
        if dead or unclean:
            self._alarmed = True
            self._due_drained = False
            self._left.clear()
        return dead

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
        """Return for how many looks a worker has given no fresh sign of life."""
        if worker not in self._beats:
            # Whom a process finds when it starts may be dead; whoever comes later came since the last look.
            return 0 if self._looked else SILENT_LOOKS
        return 0 if beat > self._beats[worker] else self._silent[worker] + 1
