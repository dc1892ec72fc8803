"""AtMostOnce and AtLeastOnce: the claim is one commit and the settle another; between them the handler runs.

`turn_over` settles what has finished and claims what is next in one verb, never more than there are free slots: a crash
leaves no more keys in doubt than this process had slots.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.entry import Claim, Settle, Settled, Won
from consumer.path.attempt import Verdict
from consumer.path.endings import ending_of_settle, fenced, settle_of
from consumer.path.held import endings_of_held
from consumer.path.keying import claim_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.turning import turn

__all__ = ["Finished", "Turned", "known_already", "turn_over"]


class Finished(msgspec.Struct, frozen=True, gc=False):
    """An attempt that has ended and is not settled yet."""

    work: Work
    won: Won
    verdict: Verdict
    settle: Settle

    @staticmethod
    def of(parts: Parts, work: Work, won: Won, verdict: Verdict) -> Finished:
        """Decide, by the handler's mode, how the attempt is settled."""
        return Finished(work, won, verdict, settle_of(work, won, verdict, parts.router))


class Turned(msgspec.Struct, frozen=True, gc=False):
    """What one turn has made.

    Attributes:
        settled: an ending per finished attempt.
        started: the works whose claim was won: their handlers must be started now.
        others: works that start nothing, with their endings.
    """

    settled: list[Ending]
    started: list[tuple[Work, Won]]
    others: list[tuple[Work, Ending]]


async def turn_over(
    parts: Parts, finished: Sequence[Finished], wanted: Sequence[Work], claims: Sequence[Claim] | None = None
) -> Turned:
    """Settle `finished` and claim `wanted` in one commit.

    Args:
        parts: what the path works with.
        finished: attempts that have ended.
        wanted: distinct keys, at most as many as there are slots free once `finished` is durable.
        claims: the claims of `wanted` where this same turn was asked before and its reply was lost.

    Raises:
        StoreUnavailable: repeat it, with the same claims.
    """
    claims = [claim_of(work.handler, work.envelope) for work in wanted] if claims is None else claims
    settled, answers = await turn(parts, [done.settle for done in finished], claims)
    endings: list[Ending] = []
    for done, outcome in zip(finished, settled, strict=True):
        lost = outcome is Settled.LOST
        ending = fenced() if lost else ending_of_settle(done.work, done.won, done.settle)
        parts.observer.ended(done.work, ending, done.verdict.seconds)
        endings.append(ending)
    started: list[tuple[Work, Won]] = []
    held = []
    for work, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, Won):
            started.append((work, answer))
        else:
            held.append((work, answer))
    others = await endings_of_held(parts, held) if held else []
    return Turned(endings, started, [(work, ending) for (work, _), ending in zip(held, others, strict=True)])


async def known_already(parts: Parts, works: Sequence[Work]) -> tuple[list[Work], list[tuple[Work, Ending]]]:
    """Filter known duplicates by a read, before any of them takes a slot.

    Returns:
        The works that may be new, in order; and the others with their endings.
    """
    answers = await parts.inbox.look([claim_of(work.handler, work.envelope) for work in works])
    fresh: list[Work] = []
    held = []
    for work, answer in zip(works, answers, strict=True):
        if answer is None or isinstance(answer, Won):
            fresh.append(work)
        else:
            held.append((work, answer))
    endings = await endings_of_held(parts, held) if held else []
    return fresh, [(work, ending) for (work, _), ending in zip(held, endings, strict=True)]
