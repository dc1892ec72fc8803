"""The path, read first: source -> decode -> key -> claim -> run -> settle (+ outbox) -> ack; relay -> sink.

    worker.intake   polls the source and makes works of deliveries       (decode, key: `keying`)
    worker.lanes    run_transactional: groups of one Transactional handler  (`one_commit`, `alone`)
    worker.slots    start_claimed: everything else, the claim is the start   (`two_commits`)
    worker.relay    outbox -> sink

Lists in, lists out: the group is the unit of I/O, one delivery (`attempt`) the unit of decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Conflicting, Held, State
from consumer.path.alone import run_alone
from consumer.path.held import endings_of_held
from consumer.path.one_commit import run_group
from consumer.path.parts import Ending, Parts, Work

__all__ = ["collapse", "ending_of_copy", "run_transactional"]


async def run_transactional(
    parts: Parts, works: Sequence[Work], *, careful: bool = False
) -> list[Ending | None]:
    """Run deliveries of one Transactional handler in order.

    Args:
        parts: what the path works with.
        works: one handler's; a key may occur more than once.
        careful: each alone, its attempt counted before its handler starts (a process has died without saying goodbye).

    Returns:
        An ending per work; `None` where its turn did not come: ask again at once.

    Raises:
        StoreUnavailable: what has no ending yet is safe to ask again.
    """
    firsts, copies = collapse(works)
    distinct = [works[i] for i in firsts]
    if careful:
        ran: list[Ending | None] = [await run_alone(parts, work) for work in distinct]
    else:
        ran = await run_group(parts, distinct)
    endings: list[Ending | None] = [None] * len(works)
    for i, ending in zip(firsts, ran, strict=True):
        endings[i] = ending
    for copy, first in copies:
        endings[copy] = await ending_of_copy(parts, works[copy], works[first], endings[first])
    return endings


def collapse(works: Sequence[Work]) -> tuple[list[int], list[tuple[int, int]]]:
    """Part equal keys: a store's set of won identities cannot tell two copies of one key apart.

    Returns:
        The indices of the first of each identity, in order; and (copy, its first) for the others.
    """
    seen: dict[bytes, int] = {}
    firsts: list[int] = []
    copies: list[tuple[int, int]] = []
    for i, work in enumerate(works):
        first = seen.setdefault(work.envelope.identity, i)
        if first == i:
            firsts.append(i)
        else:
            copies.append((i, first))
    return firsts, copies


async def ending_of_copy(parts: Parts, copy: Work, first: Work, ending: Ending | None) -> Ending | None:
    """Return the ending of a second copy, made of the first one's: duplicate, conflict, or ask again."""
    if ending is None:
        return None
    if ending.conflict or not ending.ack:
        return None  # the first one tells nothing of the key's entry: the copy asks for itself
    if copy.envelope.fingerprint != first.envelope.fingerprint:
        answer: Held | Conflicting = Conflicting("conflict: the key was used with another payload")
    else:
        stored = ending.state is not State.DONE
        answer = Held(ending.state, stored, ending.token, ending.attempt, ending.result, ending.reason)
    [own] = await endings_of_held(parts, [(copy, answer)])
    return own
