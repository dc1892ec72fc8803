"""Transactional: the entries, the handlers' rows, results and outgoing messages of a group in one commit.

A group reads as the path: claim, run, fill, seal, commit. Whatever goes wrong rolls all of it back, so nothing has
happened; then the good run again together, and whoever failed runs alone (`alone`).
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.declare.handlers import Handler
from consumer.declare.tx import Writes
from consumer.entry import Answer, Taken, Won
from consumer.errors import Contended, GroupFault, HandlerFault, WriteFault
from consumer.message import Message
from consumer.path.alone import run_alone, run_claimed
from consumer.path.attempt import Verdict, attempt
from consumer.path.batch import attempt_batch, chunks
from consumer.path.endings import ending_of_settle, running_elsewhere, settle_of
from consumer.path.held import endings_of_held
from consumer.path.keying import Unkeyed, claim_of, envelope_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.ran import TIME_BOX, Ran
from consumer.path.revive import revive, revive_taken
from consumer.path.sealing import flush, seal_and_commit
from consumer.ports.inbox import Group

__all__ = ["run_due", "run_due_alone", "run_group"]


async def run_group(parts: Parts, works: Sequence[Work]) -> list[Ending | None]:
    """Run deliveries of one Transactional handler in order, in as few commits as their outcomes allow.

    Args:
        parts: what the path works with.
        works: one handler's, no key twice, in the order in which they are to start.

    Returns:
        An ending per work; `None` where its turn did not come (the time box, a neighbour's failure): ask again at once.

    Raises:
        StoreUnavailable: nothing is known of what has no ending yet; all of it is safe to ask again.
    """
    try:
        return await _in_one_commit(parts, works)
    except GroupFault as fault:
        return await _after_fault(parts, works, fault)


async def run_due(parts: Parts, handler: Handler, limit: int) -> list[Ending | None]:
    """Run up to `limit` due entries of one Transactional handler, taken from the store in the group's own transaction.

    Returns:
        As `run_group`; an empty list: nothing is due.

    Raises:
        StoreUnavailable: as `run_group`.
    """
    works: list[Work] = []
    group = await parts.transactions.open()
    try:
        known, odd = _works_of(parts, handler, await group.due([handler.name], limit))
        works = [work for work, _ in known]
        answers = [Won(entry.token, entry.attempt) for _, entry in known]
        ran, left = await _run_won(parts, group, works, answers)
        await _end(group, ran, [works[i].envelope.identity for i in left] + [entry.identity for entry in odd])
    except GroupFault as fault:
        await group.rollback()
        return await _after_fault(parts, works, fault)
    except BaseException:
        await group.rollback()
        raise
    endings = await _endings(parts, works, answers, ran)
    return [*endings, *[await revive_taken(parts, handler, entry) for entry in odd]]


async def run_due_alone(parts: Parts, handler: Handler) -> list[Ending | None]:
    """Run one due entry the careful way: claimed with its attempt counted, in a commit of its own, before it starts.

    One at a time: if it kills the process, nobody else's attempts are counted.

    Returns:
        As `run_due`, at most one ending.

    Raises:
        StoreUnavailable: as `run_group`.
    """
    endings: list[Ending | None] = []
    for entry in await parts.arrivals.due(parts.worker, [handler.name], 1):
        won = Won(entry.token, entry.attempt)
        known, odd = _works_of(parts, handler, [entry])
        if odd:
            endings.append(await revive(parts, handler, entry, won))
        else:
            endings.append(await run_claimed(parts, known[0][0], won))
    return endings


async def _in_one_commit(parts: Parts, works: Sequence[Work]) -> list[Ending | None]:
    """claim, run, fill, seal, commit; any fault rolls all of it back and is raised."""
    group = await parts.transactions.open()
    try:
        answers = await group.claim([claim_of(work.handler, work.envelope) for work in works])
        ran, left = await _run_won(parts, group, works, answers)
        await _end(group, ran, [works[i].envelope.identity for i in left])
    except BaseException:
        await group.rollback()
        raise
    return await _endings(parts, works, answers, ran)


def _works_of(
    parts: Parts, handler: Handler, taken: Sequence[Taken]
) -> tuple[list[tuple[Work, Taken]], list[Taken]]:
    """Part entries that their bytes still name from odd ones: redriven born dead, or bytes that no longer decode."""
    known: list[tuple[Work, Taken]] = []
    odd: list[Taken] = []
    for entry in taken:
        envelope = envelope_of(parts.app, handler, Message.decode(entry.message), stored=True)
        if entry.keyed and not isinstance(envelope, Unkeyed) and envelope.identity == entry.identity:
            known.append((Work(handler, envelope), entry))
        else:
            odd.append(entry)
    return known, odd


async def _run_won(
    parts: Parts, group: Group, works: Sequence[Work], answers: Sequence[Answer]
) -> tuple[list[Ran], list[int]]:
    """Run the handlers of the won keys in order; return who returned, and whose turn did not come.

    An entry with earlier attempts has failed before: it is left, and runs alone, where its attempts are counted.
    """
    writes = Writes()
    ran: list[Ran] = []
    left = [i for i, answer in enumerate(answers) if isinstance(answer, Won) and answer.attempt > 1]
    fresh = [i for i, answer in enumerate(answers) if isinstance(answer, Won) and answer.attempt == 1]
    box = parts.clock.monotonic() + TIME_BOX
    size = works[0].handler.batch if works else None
    for chunk in chunks(fresh, size or 1):
        if ran and parts.clock.monotonic() > box:
            left += chunk
            continue
        won = [(i, answer) for i in chunk if isinstance(answer := answers[i], Won)]
        for (i, answer), verdict in zip(won, await _verdicts(parts, group, works, won, writes), strict=True):
            ran.append(Ran(i, answer, verdict, settle_of(works[i], answer, verdict, parts.router)))
    await flush(group, writes)
    return ran, left


async def _verdicts(
    parts: Parts, group: Group, works: Sequence[Work], won: Sequence[tuple[int, Won]], writes: Writes
) -> list[Verdict]:
    """Run one handler call in the open group; what it raised is the group's fault, with a culprit where there is one."""
    if works[won[0][0]].handler.batch is None:
        told: list[Verdict] | Verdict = await attempt(
            parts, works[won[0][0]], won[0][1], group=group, writes=writes
        )
    else:
        told = await attempt_batch(
            parts, [(works[i], answer) for i, answer in won], group=group, writes=writes
        )
    if not isinstance(told, Verdict):
        return told  # marked items are settled as they were marked, in the commit of the rest
    if told.returned:
        return [told]
    if isinstance(told.error, GroupFault):
        raise told.error
    # Also where it says that nothing was done: what it has written must not commit with its neighbours'.
    # A store that failed beneath a handler may be that handler's doing (it closed its connection): it runs alone, which
    # asks the store first, and counts its attempt.
    if len(won) == 1:
        raise HandlerFault(won[0][0])
    raise WriteFault("a batch's handler raised: which item it was is not known")


async def _end(group: Group, ran: Sequence[Ran], left: Sequence[bytes]) -> None:
    """Take back the claims of what did not run, and commit the rest: what returned, and what a batch's handler marked."""
    if not ran:
        await group.rollback()
        return
    if left:
        await group.unclaim(left)
    if marked := [r.settle for r in ran if not r.verdict.returned]:
        await group.settle(marked)
    await seal_and_commit(group, [r.settle for r in ran if r.verdict.returned])


async def _endings(
    parts: Parts, works: Sequence[Work], answers: Sequence[Answer], ran: Sequence[Ran]
) -> list[Ending | None]:
    """Say how each delivery ended, now that the group has committed; what had failed before runs alone now."""
    endings: list[Ending | None] = [None] * len(works)
    for r in ran:
        ending = ending_of_settle(works[r.index], r.won, r.settle)
        endings[r.index] = ending
        parts.observer.ended(works[r.index], ending, r.verdict.seconds)
    held = [(i, answer) for i, answer in enumerate(answers) if not isinstance(answer, Won)]
    if held:
        found = await endings_of_held(parts, [(works[i], answer) for i, answer in held])
        for (i, _), ending in zip(held, found, strict=True):
            endings[i] = ending
    for i, answer in enumerate(answers):
        if isinstance(answer, Won) and answer.attempt > 1:
            endings[i] = await run_alone(parts, works[i])
    return endings


async def _after_fault(parts: Parts, works: Sequence[Work], fault: GroupFault) -> list[Ending | None]:
    """Nothing of the group has happened: run again what can be run, with more care the less is known of the culprit."""
    if isinstance(fault, HandlerFault):
        before = await _again(parts, works[: fault.index])
        culprit = await run_alone(parts, works[fault.index])
        return [*before, culprit, *[None] * (len(works) - fault.index - 1)]
    if isinstance(fault, WriteFault):
        # A collected write failed, and an executemany names no culprit: one by one shows who it is.
        return [ending for work in works for ending in await _again(parts, [work])]
    if isinstance(fault, Contended):
        if len(works) <= 1:
            return [running_elsewhere(str(fault)) for _ in works]
        half = len(works) // 2
        return [*await run_group(parts, works[:half]), *[None] * (len(works) - half)]
    # Somebody swallowed an error, or ended the transaction: nobody is known to be innocent.
    return [await run_alone(parts, work) for work in works]


async def _again(parts: Parts, works: Sequence[Work]) -> list[Ending | None]:
    """Run together what is believed to be good; if that is not so, each alone."""
    if not works:
        return []
    try:
        return await _in_one_commit(parts, works)
    except GroupFault:
        return [await run_alone(parts, work) for work in works]
