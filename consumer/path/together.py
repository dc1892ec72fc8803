"""Calls of Transactional handlers that wait for a connection share the next one's commit."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Sequence

import msgspec

from consumer.declare.tx import Writes
from consumer.entry import Answer, Won
from consumer.errors import GroupFault
from consumer.path.attempt import attempt
from consumer.path.direct import Called, call, claim_of_call, told_held, told_ran
from consumer.path.endings import settle_of
from consumer.path.parts import Parts, Work
from consumer.path.ran import TIME_BOX, Ran
from consumer.path.sealing import flush, seal_and_commit
from consumer.ports.inbox import Group

__all__ = ["Together"]

LARGEST = 50
"""Calls of one commit: enough for the commit to stop mattering, few enough for nobody to wait long."""


class _Waiting(msgspec.Struct, gc=False):
    """A call, its caller, and whether it must run alone."""

    work: Work
    answer: asyncio.Future[Called]
    context: contextvars.Context
    alone: bool = False


class _Alone(Exception):
    """A handler did not return: whoever was in the group runs alone, as if there had been none."""


class Together:
    """Runs calls at once while there are connections; what waits for one makes up a group.

    So a single call is never slower for it, and under load claim, results and commit are paid once a group. A group in which
    anything is not as it should be has not happened: each of it runs alone then (`direct.call`), with its own outcome. A
    handler's effects outside the database may repeat by that, as its mode says.

    Args:
        parts: what the path works with.

    Attributes:
        groups: commits of more than one call.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._sizes: dict[str, int] = {}
        self._beginning = False
        self.groups = 0

    def call(self, work: Work) -> asyncio.Future[Called]:
        """Return what will be the answer of `direct.call`, for a Transactional handler that is in no lane.

        A call that is cancelled before its handler has begun does not begin.
        """
        answer: asyncio.Future[Called] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, answer, contextvars.copy_context()))
        self._begin_soon()
        return answer

    def _begin_soon(self) -> None:
        """Begin when whoever is ready to run now has had its turn: what came in one read of the sockets is one group."""
        if not self._beginning:
            self._beginning = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._beginning = False
        while self._waiting and len(self._running) < self._parts.transactions.lanes:
            group = self._next()
            if not group:
                return
            run = self._alone(group[0]) if len(group) == 1 else self._group(group)
            task = asyncio.create_task(run, name="calls", context=group[0].context)
            self._running.add(task)
            self._parts.calls.add(task)  # the end of the process waits for it, or stops it
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._parts.calls.discard(task)
        self._begin_soon()

    def _next(self) -> list[_Waiting]:
        """Take the one that has waited longest, and whoever can share its commit."""
        group: list[_Waiting] = []
        later: list[_Waiting] = []
        keys: set[bytes] = set()
        size = LARGEST
        while self._waiting and len(group) < size:
            one = self._waiting.popleft()
            if one.answer.done():
                continue  # its caller was stopped before it began
            identity = one.work.envelope.identity
            if not group or (self._fits(group[0], one) and identity not in keys):
                group.append(one)
                keys.add(identity)
                size = 1 if group[0].alone else self._sizes.get(one.work.handler.name, LARGEST)
            else:
                later.append(one)
        self._waiting.extendleft(reversed(later))
        return group

    def _fits(self, first: _Waiting, one: _Waiting) -> bool:
        return one.work.handler is first.work.handler and not one.alone

    async def _alone(self, one: _Waiting) -> None:
        clock = self._parts.clock
        box = clock.monotonic() + TIME_BOX
        try:
            called = await call(self._parts, one.work)
            if clock.monotonic() < box:
                self._grow(one.work)
        except asyncio.CancelledError:
            one.answer.cancel()
            raise
        except Exception as fault:  # noqa: BLE001 - the caller is told
            if not one.answer.done():
                one.answer.set_exception(fault)
                one.answer.exception()  # its caller may be gone: then nobody is left to be told
            return
        if not one.answer.done():
            one.answer.set_result(called)

    async def _group(self, group: Sequence[_Waiting]) -> None:
        works = [one.work for one in group]
        left: list[int] = []
        try:
            calls = await self._in_one_commit(works, left)
        except asyncio.CancelledError:
            for one in group:
                one.answer.cancel()
            raise
        except Exception:  # noqa: BLE001 - nothing has happened, or the outcome is asked for again: by each alone
            calls = [None] * len(group)
        for i, one in enumerate(group):
            one.alone = calls[i] is None and i not in left
        again = []
        for one, called in zip(group, calls, strict=True):
            if called is None:
                again.append(one)
            elif not one.answer.done():
                one.answer.set_result(called)
        self._waiting.extendleft(reversed(again))

    def _grow(self, work: Work) -> None:
        name = work.handler.name
        self._sizes[name] = min(LARGEST, 2 * self._sizes.get(name, LARGEST))

    async def _in_one_commit(self, works: Sequence[Work], late: list[int]) -> list[Called | None]:
        """claim, run, fill, seal, commit; `None` for whoever must run alone, or (`late`) is in the next group."""
        parts = self._parts
        group = await parts.transactions.open()
        try:
            answers = await group.claim([claim_of_call(work) for work in works])
            ran, again, left = await self._run_won(group, works, answers)
            if ran:
                if again or left:
                    await group.unclaim([works[i].envelope.identity for i in (*again, *left)])
                await seal_and_commit(group, [r.settle for r in ran])
            else:
                await group.rollback()
        except (GroupFault, _Alone):
            await group.rollback()
            return [None] * len(works)
        except BaseException:
            await group.rollback()
            raise
        self.groups += 1
        late += left
        if left:
            self._sizes[works[0].handler.name] = len(ran)
        else:
            self._grow(works[0])
        calls: list[Called | None] = [None] * len(works)
        for r in ran:
            calls[r.index] = told_ran(parts, works[r.index], r.won, r.verdict, r.settle)
        for i, answer in enumerate(answers):
            if not isinstance(answer, Won):
                calls[i] = told_held(parts, works[i], answer)
        return calls

    async def _run_won(
        self, group: Group, works: Sequence[Work], answers: Sequence[Answer]
    ) -> tuple[list[Ran], list[int], list[int]]:
        """Run the won ones in order; return who returned, who has failed before, and whose turn did not come."""
        parts, writes = self._parts, Writes()
        ran: list[Ran] = []
        again: list[int] = []
        left: list[int] = []
        box = parts.clock.monotonic() + TIME_BOX
        for i, (work, answer) in enumerate(zip(works, answers, strict=True)):
            if not isinstance(answer, Won):
                continue
            if answer.attempt > 1:
                again.append(i)
                continue
            if ran and parts.clock.monotonic() > box:
                left.append(i)
                continue
            verdict = await attempt(parts, work, answer, group=group, writes=writes)
            if not verdict.returned:
                raise _Alone
            ran.append(Ran(i, answer, verdict, settle_of(work, answer, verdict, parts.router)))
        await flush(group, writes)
        return ran, again, left
