"""Deliveries of ordered handlers: landed in their lane first, with their bytes; the store delivers them in order.

The order of a lane is then a matter of rows: it outlives retries, doubts, crashes and rebalances, and does not depend on
which process runs what. Whoever polls a partition lands its messages in the order of their offsets, and an earlier owner
had landed all that is before what it landed last.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Conflicting, Held, Landed, State
from consumer.path.held import endings_of_held
from consumer.path.keying import claim_of, landing_of
from consumer.path.parts import Ending, Parts, Work

__all__ = ["land_in_lanes"]


async def land_in_lanes(parts: Parts, works: Sequence[Work]) -> list[Ending]:
    """Land deliveries that have a lane, in this order and in one commit; say of each whether it may be acknowledged.

    Raises:
        StoreUnavailable: nothing is known; all of them may be landed again, in the same order.
    """
    landings = [landing_of(parts.app, work.handler, work.envelope) for work in works]
    landed = await parts.arrivals.land(landings)
    endings: list[Ending | None] = [None] * len(works)
    for i, (landing, how) in enumerate(zip(landings, landed, strict=True)):
        if how is Landed.NEW:  # of any other the observer is told how it has ended
            parts.observer.arrived(landing, how)
            endings[i] = Ending(State.RECEIVED, ack=True)
        elif how is Landed.CONFLICT:
            reason = "conflict: this key was used with another payload"
            ending = Ending(State.DEAD, ack=True, duplicate=True, conflict=True, reason=reason)
            parts.observer.ended(works[i], ending, 0.0)
            endings[i] = ending
    known = [i for i, so_far in enumerate(endings) if so_far is None]
    for i, ending in zip(known, await _duplicates(parts, [works[i] for i in known]), strict=True):
        endings[i] = ending
    return [each for each in endings if each is not None]


async def _duplicates(parts: Parts, works: Sequence[Work]) -> list[Ending]:
    """Return the endings of deliveries whose key has an entry: by the ack rule, its bytes attached where they lack."""
    if not works:
        return []
    answers = await parts.inbox.look([claim_of(work.handler, work.envelope) for work in works])
    held: list[tuple[Work, Held | Conflicting]] = []
    for work, answer in zip(works, answers, strict=True):
        # What a claim would win lacks its bytes (it was made before its handler was ordered), or is gone by now: it is
        # given them, or asked about again. It is never claimed here, where nobody looks at its lane.
        there = answer if isinstance(answer, Held | Conflicting) else Held(State.WAITING, stored=False)
        held.append((work, there))
    return await endings_of_held(parts, held)
