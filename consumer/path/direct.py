"""A direct call: one key, run now for a caller that waits for its result (`Running.call`, HTTP endpoints)."""

from __future__ import annotations

import asyncio

from consumer.declare.tx import Writes
from consumer.entry import Conflicting, Held, Kind, Settle, State, Won
from consumer.errors import Conflict, Contended, Dead, GroupFault, InDoubt, InFlight
from consumer.path.attempt import Verdict, attempt
from consumer.path.endings import ending_of_settle, settle_of
from consumer.path.keying import claim_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.sealing import seal_and_commit
from consumer.path.turning import turn
from consumer.rules.modes import MODES, Outcome

__all__ = ["call"]


async def call(parts: Parts, work: Work) -> Ending:
    """Run `work` now, or answer with what its key's entry knows.

    A caller that fails is told so and asks again itself: where nothing can have happened, the entry is released to the
    state before (nothing waits in the store for a call). A `Reject` is stored, with the bytes; a doubt stays visible.

    Args:
        parts: what the path works with.
        work: the operation; nobody delivers its bytes again.

    Returns:
        The ending, done; `duplicate` where an earlier attempt's result is given again.

    Raises:
        InFlight: the key runs elsewhere, or waits.
        InDoubt: its outcome is not known.
        Conflict: the key was used with another payload.
        Dead: it was rejected, now or before.
        StoreUnavailable: nothing was started, or the outcome is not known: ask again.
        Exception: what the handler raised, where its mode says that nothing has happened.
    """
    task = asyncio.current_task()
    if task is not None:
        parts.calls.add(task)
        task.add_done_callback(parts.calls.discard)
    if MODES[type(work.handler.mode)].in_transaction:
        return await _in_one_commit(parts, work)
    _, [answer] = await turn(parts, [], [claim_of(work.handler, work.envelope, keep=True)])
    if not isinstance(answer, Won):
        return _answered(work, answer)
    verdict = await attempt(parts, work, answer)
    settle = settle_of(work, answer, verdict, parts.router)
    if settle.kind is Kind.RETRY:
        settle = Settle(settle.identity, settle.token, Kind.RELEASE)
    # Owed until it is durable: where the store does not answer now, the sweep goes on asking.
    parts.owed[settle.identity] = settle
    await turn(parts, [settle], [])
    parts.owed.pop(settle.identity, None)
    return _told(parts, work, answer, verdict, settle)


async def _in_one_commit(parts: Parts, work: Work) -> Ending:
    group = await parts.transactions.open()
    try:
        [answer] = await group.claim([claim_of(work.handler, work.envelope)])
        if not isinstance(answer, Won):
            await group.rollback()
            return _answered(work, answer)
        writes = Writes()
        verdict = await attempt(parts, work, answer, group=group, writes=writes)
        settle = settle_of(work, answer, verdict, parts.router)
        if verdict.outcome is Outcome.RETURNED:
            await writes.flush(group)
            await seal_and_commit(group, [settle])
            return _told(parts, work, answer, verdict, settle)
        await group.rollback()
    except Contended as fault:
        await group.rollback()
        raise InFlight(f"{work.handler.name}: the key is being worked on ({fault})") from fault
    except BaseException:
        await group.rollback()
        raise
    if settle.kind is Kind.BURY:
        # The refusal is an outcome: it is kept, so that the same request gets the same answer.
        _, [claimed] = await turn(parts, [], [claim_of(work.handler, work.envelope, keep=True)])
        if not isinstance(claimed, Won):
            return _answered(work, claimed)
        await turn(parts, [Settle(settle.identity, claimed.token, Kind.BURY, reason=settle.reason)], [])
    return _told(parts, work, answer, verdict, settle)


def _told(parts: Parts, work: Work, won: Won, verdict: Verdict, settle: Settle) -> Ending:
    """Tell the caller how its attempt ended; the observer too."""
    released = settle.kind in {Kind.RETRY, Kind.RELEASE}
    ending = (
        Ending(State.ABSENT, ack=True, attempt=won.attempt, token=won.token, reason=verdict.reason)
        if released
        else ending_of_settle(work, won, settle)
    )
    parts.observer.ended(work, ending, verdict.seconds)
    if ending.state is State.DONE:
        return ending
    if ending.state is State.DEAD:
        raise Dead(ending.reason or "rejected") from verdict.error
    if ending.state is State.IN_DOUBT:
        raise InDoubt(f"{work.handler.name}: the outcome is not known: {ending.reason}") from verdict.error
    if verdict.error is not None and not isinstance(verdict.error, GroupFault):
        raise verdict.error
    raise InFlight(f"{work.handler.name}: {verdict.reason}; nothing has happened, ask again")


def _answered(work: Work, answer: Held | Conflicting) -> Ending:
    """Answer with what the key's entry knows."""
    name = work.handler.name
    if isinstance(answer, Conflicting):
        raise Conflict(f"{name}: {answer.reason}")
    if answer.state is State.DONE:
        return Ending(
            State.DONE,
            ack=True,
            duplicate=True,
            attempt=answer.attempt,
            token=answer.token,
            result=answer.result,
        )
    if answer.state is State.DEAD:
        raise Dead(answer.reason or "dead")
    if answer.state is State.IN_DOUBT:
        raise InDoubt(f"{name}: the outcome of an earlier attempt is not known: {answer.reason}")
    raise InFlight(f"{name}: the key is {answer.state.word}")
