"""Transactional, the careful way: one delivery, its attempt counted before its handler starts.

A short transaction writes the entry as running, so that a message that kills the process is bounded by its budget; then
the handler's own transaction takes it. The write after a rolled-back attempt compares the token.
"""

from __future__ import annotations

from consumer.declare.tx import Writes
from consumer.entry import Settle, Settled, Won
from consumer.errors import ConsumerError, GroupFault
from consumer.path.attempt import Verdict, attempt, one_line, runs_on
from consumer.path.endings import ending_of_settle, fenced, running_elsewhere, settle_of
from consumer.path.held import endings_of_held
from consumer.path.keying import claim_of
from consumer.path.parts import Attempt, Ending, Parts, Work
from consumer.path.sealing import flush, seal_and_commit
from consumer.path.turning import turn
from consumer.rules.modes import Outcome

__all__ = ["count_abandoned", "run_alone", "run_claimed"]


async def run_alone(parts: Parts, work: Work) -> Ending:
    """Claim one delivery's key, run its handler in a transaction of its own, settle.

    Raises:
        StoreUnavailable: nothing is known; the delivery is safe to ask again.
    """
    _, [answer] = await turn(parts, [], [claim_of(work.handler, work.envelope)])
    if not isinstance(answer, Won):
        [ending] = await endings_of_held(parts, [(work, answer)])
        return ending
    return await run_claimed(parts, work, answer)


async def run_claimed(parts: Parts, work: Work, won: Won) -> Ending:
    """Run a Transactional handler whose entry is running under `won`, and settle it whatever happens.

    Raises:
        StoreUnavailable: as `run_alone`; the claim stays until the sweep releases it or the worker lapses.
    """
    verdict, settle = await _in_transaction(parts, work, won)
    if settle is None:
        settle = settle_of(work, won, verdict, parts.router)
        [settled], _ = await turn(parts, [settle], [])
        if settled is Settled.LOST:
            ending = fenced()
            parts.observer.ended(work, ending, verdict.seconds)
            return ending
    ending = ending_of_settle(work, won, settle)
    parts.observer.ended(work, ending, verdict.seconds)
    return ending


async def _in_transaction(parts: Parts, work: Work, won: Won) -> tuple[Verdict, Settle | None]:
    """Return the verdict, and the completion where it is committed."""
    group = await parts.transactions.open()
    try:
        if not await group.take(work.envelope.identity, won.token):
            raise GroupFault("the entry is held by another transaction")
        writes = Writes()
        verdict = await attempt(parts, work, won, group=group, writes=writes)
        if verdict.outcome is not Outcome.RETURNED:
            await group.rollback()
            # Also where the store failed beneath it: if it answers the settle, it was this handler who lost the connection.
            return verdict, None
        await flush(group, writes)
        settle = settle_of(work, won, verdict, parts.router)
        await seal_and_commit(group, [settle])
    except GroupFault as fault:
        # Alone, the fault has a culprit: this handler swallowed an error, ended the transaction, or met a deadlock.
        await group.rollback()
        return Verdict(Outcome.RAISED, reason=_why(fault), error=fault), None
    except BaseException:
        await group.rollback()
        raise
    return verdict, settle


def _why(fault: ConsumerError) -> str:
    cause = fault.__cause__
    return one_line(fault) if cause is None else f"{one_line(fault)} ({one_line(cause)})"


async def count_abandoned(parts: Parts, given_up: Attempt) -> Ending:
    """Write down the attempt of a handler that ignores its cancellation, as its mode makes of a time-out.

    Alone, the entry is running under the attempt's token; in a group it was rolled back, and is claimed for this write.

    Raises:
        StoreUnavailable: the delivery is safe to ask again.
    """
    work, won = given_up.work, given_up.won
    verdict = runs_on(work)
    settle = settle_of(work, won, verdict, parts.router)
    [settled], _ = await turn(parts, [settle], [])
    if settled is Settled.LOST:
        _, [answer] = await turn(parts, [], [claim_of(work.handler, work.envelope)])
        if not isinstance(answer, Won):
            return running_elsewhere("another worker has the key")
        won = answer
        settle = settle_of(work, won, verdict, parts.router)
        await turn(parts, [settle], [])
    ending = ending_of_settle(work, won, settle)
    parts.observer.ended(work, ending, work.handler.timeout)
    return ending
