"""A direct call: one key, run now for a caller that waits for its result (`Running.call`, HTTP endpoints)."""

from __future__ import annotations

import asyncio

import msgspec

from consumer.declare.tx import Writes
from consumer.entry import Answer, Claim, Held, Kind, Settle, Settled, State, Won
from consumer.errors import (
    Conflict,
    ConsumerError,
    Contended,
    Dead,
    GroupFault,
    InDoubt,
    InFlight,
    StoreUnavailable,
)
from consumer.path.attempt import Verdict, attempt
from consumer.path.endings import ending_of_answer, ending_of_settle, settle_of
from consumer.path.keying import claim_of, landing_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.sealing import flush, seal_and_commit
from consumer.path.turning import turn
from consumer.rules.modes import MODES, Outcome

__all__ = ["Called", "call", "claim_of_call", "fault_of", "held_by", "told_held", "told_ran"]

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5
"""Seconds between questions about a call that a worker has taken over: doubled from the first to the longest."""


class Called(msgspec.Struct, frozen=True, gc=False):
    """What a caller is told.

    Attributes:
        ending: the entry's state now; `ABSENT`: nothing is stored, ask again.
        error: what this call's own handler raised.
        created_at: when the entry was made, by the store's clock; `None`: not known yet.
    """

    ending: Ending
    error: BaseException | None = None
    created_at: float | None = None


async def call(parts: Parts, work: Work) -> Called:
    """Run `work` now, or answer with what its key's entry knows.

    A caller that fails is told so and asks again itself: where nothing can have happened, the entry is released to the
    state before (nothing waits in the store for a call). A `Reject` is stored, with the bytes; a doubt stays visible.
    An entry that a way in has landed and nobody has started yet is taken by the call. Where the handler is ordered, and
    the message has an ordering key, the call stands in line like a message: it is landed first, and runs now if nothing
    of its lane is before it; else it is received, and is run in its turn. So a failure of its handler leaves it there.

    Args:
        parts: what the path works with.
        work: the operation; nobody delivers its bytes again.

    Raises:
        StoreUnavailable: nothing was started, or the outcome is not known: ask again.
        GroupFault: the transaction was lost after the handler had returned; nothing has happened.
    """
    task = asyncio.current_task()
    if task is not None:
        parts.calls.add(task)
        task.add_done_callback(parts.calls.discard)
    if work.envelope.lane is not None:
        return await _in_line(parts, work)
    return await _now(parts, work)


async def _in_line(parts: Parts, work: Work) -> Called:
    """Land the call behind what its lane holds, and run it if that is nothing."""
    [known] = await parts.inbox.look([claim_of_call(work)])
    if known is not None:
        return held_by(known)
    await parts.arrivals.land([landing_of(parts.app, work.handler, work.envelope)])
    until = parts.clock.monotonic() + work.handler.timeout
    pause = FIRST_PAUSE
    while True:
        called = await _now(parts, work)
        # A worker may have taken it from the store before us: then it is run by that one, for us too.
        theirs = called.ending.duplicate and called.ending.state is State.RUNNING
        if not theirs or parts.clock.monotonic() > until:
            return called
        await parts.clock.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _now(parts: Parts, work: Work) -> Called:
    """Claim, run and settle."""
    if MODES[type(work.handler.mode)].in_transaction:
        return await _in_one_commit(parts, work)
    _, [answer] = await turn(parts, [], [claim_of_call(work, keep=True)])
    if not isinstance(answer, Won):
        return told_held(parts, work, answer)
    verdict = await attempt(parts, work, answer)
    settle = settle_of(work, answer, verdict, parts.router)
    if settle.kind is Kind.RETRY:
        settle = Settle(settle.identity, settle.token, Kind.RELEASE)
    # Owed until it is durable: where the store does not answer now, the sweep goes on asking.
    parts.owed[settle.identity] = settle
    [settled], _ = await turn(parts, [settle], [])
    if parts.owed.get(settle.identity) is settle:
        del parts.owed[settle.identity]
    if settled is Settled.LOST:
        # Another worker has the key: its result is the one that is kept, so this one's must not be told.
        return await _looked_up(parts, work)
    return told_ran(parts, work, answer, verdict, settle)


def told_held(parts: Parts, work: Work, answer: Answer) -> Called:
    """As `held_by`, told to the observer too: a call that found its key's entry has come to its end."""
    called = held_by(answer)
    parts.observer.ended(work, called.ending, 0.0)
    return called


def held_by(answer: Answer | None) -> Called:
    """Return what a caller is told whose key's entry was not started by this call."""
    if answer is None or isinstance(answer, Won):
        return Called(Ending(State.ABSENT, ack=True))
    created = answer.created_at if isinstance(answer, Held) and answer.created_at else None
    return Called(ending_of_answer(answer), created_at=created)


def fault_of(work: Work, called: Called) -> BaseException | None:
    """Return what `Running.call` raises for an answer that is no result; `None` where there is one.

    It is `Conflict`, `Dead`, `InDoubt`, `InFlight`, or what the handler raised, where nothing is stored.
    """
    name, ending, error = work.handler.name, called.ending, called.error
    if ending.conflict:
        return Conflict(f"{name}: {ending.reason}")
    if ending.state is State.DONE:
        return None
    fault: ConsumerError
    if ending.state is State.DEAD:
        fault = Dead(ending.reason or "dead")
    elif ending.state is State.IN_DOUBT:
        fault = InDoubt(f"{name}: the outcome is not known: {ending.reason}")
    elif ending.state is not State.ABSENT:
        fault = InFlight(f"{name}: the key is {ending.state.word}")
    elif error is not None and not isinstance(error, GroupFault):
        return error
    else:
        fault = InFlight(f"{name}: {ending.reason}; nothing has happened, ask again")
    fault.__cause__ = error
    return fault


def claim_of_call(work: Work, *, keep: bool = False) -> Claim:
    """Return a claim that also takes what was landed and is due: the caller is here now, and a worker may not be."""
    return msgspec.structs.replace(claim_of(work.handler, work.envelope, keep=keep), stored=True)


async def _in_one_commit(parts: Parts, work: Work) -> Called:
    group = await parts.transactions.open()
    try:
        [answer] = await group.claim([claim_of_call(work)])
        if not isinstance(answer, Won):
            await group.rollback()
            return told_held(parts, work, answer)
        writes = Writes()
        verdict = await attempt(parts, work, answer, group=group, writes=writes)
        settle = settle_of(work, answer, verdict, parts.router)
        if verdict.outcome is Outcome.RETURNED:
            await flush(group, writes)
            await seal_and_commit(group, [settle])
            return told_ran(parts, work, answer, verdict, settle)
        await group.rollback()
    except Contended as fault:
        await group.rollback()
        reason = f"the key is being worked on ({fault})"
        return Called(Ending(State.RUNNING, ack=False, duplicate=True, reason=reason), fault)
    except GroupFault as fault:
        await group.rollback()
        if isinstance(fault.__cause__, StoreUnavailable):
            raise fault.__cause__ from None  # the caller is told to come back; nothing has happened
        raise
    except BaseException:
        await group.rollback()
        raise
    if settle.kind is Kind.BURY:
        # The refusal is an outcome: it is kept, so that the same request gets the same answer.
        _, [claimed] = await turn(parts, [], [claim_of_call(work, keep=True)])
        if not isinstance(claimed, Won):
            return held_by(claimed)
        bury = Settle(settle.identity, claimed.token, Kind.BURY, reason=settle.reason)
        [settled], _ = await turn(parts, [bury], [])
        if settled is Settled.LOST:
            return await _looked_up(parts, work)
    return told_ran(parts, work, answer, verdict, settle)


async def _looked_up(parts: Parts, work: Work) -> Called:
    [answer] = await parts.inbox.look([claim_of_call(work)])
    return held_by(answer)


def told_ran(parts: Parts, work: Work, won: Won, verdict: Verdict, settle: Settle) -> Called:
    """Tell the caller how its attempt ended; the observer too."""
    released = settle.kind in {Kind.RETRY, Kind.RELEASE}
    ending = (
        Ending(State.ABSENT, ack=True, attempt=won.attempt, token=won.token, reason=verdict.reason)
        if released
        else ending_of_settle(work, won, settle)
    )
    parts.observer.ended(work, ending, verdict.seconds)
    return Called(ending, verdict.error, None if released else won.created_at)
