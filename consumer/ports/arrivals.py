"""Entries that the store itself delivers: landed by a way in, waiting for their next attempt, or redriven."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from consumer.entry import Landed, Landing, Taken

__all__ = ["Arrivals"]


class Arrivals(Protocol):
    """Landing and what is due.

    Lanes (flag `lanes`). A landing with a `lane` stands behind all unfinished entries of its (app, handler, tenant, lane),
    in the order of the landings, across calls and handles. Unfinished is what is neither done nor dead: what waits, is in
    doubt or runs holds those behind it. An entry that has one before it starts nowhere: `due` does not yield it, and a
    claim is answered `Held`. The verb that makes the first one done or dead, whichever it is, makes the next one due, in
    the same commit, or once its own `delay` is over. A redriven entry joins its lane at the end.
    """

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably; only then may the way in answer. After a fault some may be there: duplicates, next time.

        - no entry yet: a new one in `landing.state` (`RECEIVED` due after `delay`; `DEAD` never due): `NEW`.
        - same raw key and fingerprint, or not keyed: nothing is changed, except that an entry without bytes that is waiting,
          in doubt or dead gets them: `DUPLICATE`.
        - another raw key or fingerprint: the key's entry is left alone; a dead entry with these bytes is born under
          `conflict_identity` (a second time: nothing), `keyed` false, reason `conflict: ...`: `CONFLICT`.
        Two landings of one identity in one call count one after the other.
        """
        ...

    async def due(self, worker: int, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Claim up to `limit` entries that are received or waiting, due, and hold their bytes, oldest due first.

        This *is* a claim, in one statement: the entries are running, belong to `worker`, have a new token and one attempt
        more. Skips what others hold. Unkeyed entries come too (`Taken.keyed` is false). Of a lane only its first
        unfinished entry.
        """
        ...

    async def in_lanes(self, handlers: Sequence[str]) -> dict[str, int]:
        """Count the unfinished entries that are in lanes, by handler; one that is not named has none."""
        ...
