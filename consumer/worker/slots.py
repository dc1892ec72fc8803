"""AtMostOnce and AtLeastOnce handlers: slots, each holding one started key until its settle is durable.

One loop asks the store: it settles what has finished and claims, in the same commit, as many as there are free slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence

from consumer.declare.handlers import Handler
from consumer.entry import Claim, Taken, Won
from consumer.errors import StoreUnavailable
from consumer.message import Message
from consumer.path.attempt import Verdict, attempt, runs_on, stopped
from consumer.path.batch import attempt_batch
from consumer.path.keying import Unkeyed, claim_of, envelope_of
from consumer.path.parts import Parts, Work
from consumer.path.revive import revive
from consumer.path.two_commits import Finished, known_already, turn_over
from consumer.worker.inhand import InHand
from consumer.worker.watch import GRACE

__all__ = ["Slots"]

_log = logging.getLogger("consumer.slots")

LOOK_AHEAD = 500
PAUSE = 0.5


class _Slot:
    """A started key."""

    __slots__ = ("abandoned", "deadline", "task", "won", "work")

    def __init__(self, work: Work, won: Won, deadline: float) -> None:
        self.work = work
        self.won = won
        self.deadline = deadline
        self.abandoned = False
        self.task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Its handler has not ended."""
        return self.task is not None and not self.task.done()


def _name(done: Finished) -> tuple[bytes, int]:
    return done.work.envelope.identity, done.won.token


class Slots:
    """The slots of this process, shared by its handlers.

    Args:
        parts: what the path works with.
        handlers: those that are not Transactional.
        in_hand: told of every ending.
        size: how many keys may be started and not settled: the bound of what a crash leaves in doubt.
        permitted: whether anything may start now.
        landed: called after turns that landed entries of embedded topics.
    """

    def __init__(
        self,
        parts: Parts,
        handlers: Sequence[Handler],
        in_hand: InHand,
        *,
        size: int,
        permitted: Callable[[], bool],
        landed: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._handlers = {handler.name: handler for handler in handlers}
        self._in_hand = in_hand
        self._size = size
        self._permitted = permitted
        self._landed = landed
        self._incoming: deque[Work] = deque()
        self._wanted: deque[Work] = deque()
        # By identity and token: what was given up may still run when its key is started again.
        self._slots: dict[tuple[bytes, int], _Slot] = {}
        self._finished: list[Finished] = []
        self._unanswered: tuple[list[Finished], list[Work], list[Claim]] | None = None
        self._question = (
            object()
        )  # one of `Parts.asking` for as long as `_unanswered` is, repetitions included
        self._wake = asyncio.Event()
        self._due = True
        self._taking = False
        self.paused = False
        self.stopping = False

    def put(self, work: Work) -> None:
        """Queue a delivery."""
        self._incoming.append(work)
        self._wake.set()

    def look_for_due(self) -> None:
        """Something may be due in the store."""
        if self._handlers:
            self._due = True
            self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; what runs is settled when it ends."""
        self.stopping = True
        self._wake.set()

    def forget_queued(self) -> None:
        """Drop what has not started: its next owner gets it."""
        self._incoming.clear()
        self._wanted.clear()

    def waiting(self) -> list[Work]:
        """What waits for a slot now."""
        return [*self._wanted, *self._incoming]

    @property
    def running(self) -> int:
        """How many keys are started and not settled."""
        return len(self._slots)

    @property
    def stuck(self) -> int:
        """How many handlers ignore their cancellation: their slots are lost until they end."""
        return sum(slot.abandoned for slot in self._slots.values())

    def held(self) -> dict[bytes, int]:
        """The identities and tokens that this process runs or is about to settle, to compare with the store's."""
        held: dict[bytes, int] = {}
        for identity, token in self._slots:
            held[identity] = max(token, held.get(identity, 0))
        return held

    async def idle(self) -> None:
        """Wait until nothing runs and all is settled (handlers that ignore their cancellation apart)."""
        while self._taking or self._finished or self._unanswered or self.running > self.stuck:
            await self._parts.clock.sleep(0.02)

    def claim_anew(self) -> None:
        """The worker was replaced: a claim whose reply was lost belonged to the closed one, and is asked with a new nonce."""
        if self._unanswered is not None:
            finished, wanted, _ = self._unanswered
            self._finished = [*finished, *self._finished]
            self._wanted.extendleft(reversed(wanted))
            self._unanswered = None
            self._parts.asking.discard(self._question)

    def cancel(self) -> None:
        """Ask every running handler to stop: the grace is over, or the worker was closed."""
        for slot in self._slots.values():
            if slot.task is not None and not slot.task.done():
                self._parts.stop(slot.task)

    async def run(self) -> None:
        """Turn over until `stopping` and nothing is left to settle."""
        while not (self.stopping and not self._slots and not self._finished and not self._unanswered):
            self._give_up_overdue()
            try:
                busy = await self._turn()
            except StoreUnavailable as fault:
                self._parts.away.refused(fault)
                self._due = True
                await asyncio.sleep(PAUSE)
                continue
            if not busy:
                await self._woken()

    async def _woken(self) -> None:
        # Not `asyncio.wait_for`: before Python 3.12 a cancellation that meets a set event is lost in it, and `run` never ends.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.25):
                await self._wake.wait()
        self._wake.clear()

    def _may_start(self) -> bool:
        return not self.stopping and not self.paused and self._permitted()

    async def _turn(self) -> bool:
        """Settle the finished, claim the next; return whether anything was done."""
        if self._unanswered is None:
            finished = self._next_finished()
            wanted = await self._next(finished) if self._may_start() else []
            if not finished and not wanted:
                return await self._take_due()
            self._unanswered = finished, wanted, [claim_of(work.handler, work.envelope) for work in wanted]
            self._question = object()
            self._parts.asking.add(self._question)
        finished, wanted, claims = self._unanswered
        routed = self._parts.router.landed
        turned = await turn_over(self._parts, finished, wanted, claims)
        self._parts.away.answered()
        self._unanswered = None
        for done, ending in zip(finished, turned.settled, strict=True):
            slot = self._slots.get(_name(done))
            if slot is not None and not (slot.abandoned and slot.runs):
                del self._slots[_name(done)]
            self._in_hand.ended(done.work, ending)
            if done.work.envelope.lane is not None:
                self._due = True  # the next one of its ordering key may start
        self._start(turned.started)
        self._parts.asking.discard(self._question)
        for work, ending in turned.others:
            self._in_hand.ended(work, ending)
        if any(done.settle.landings for done in finished) or self._parts.router.landed != routed:
            self._landed()
        await self._take_due()
        return True

    def _next_finished(self) -> list[Finished]:
        """Take what is to be settled now: of one key one attempt, a later one of it in the next turn."""
        now: dict[bytes, Finished] = {}
        for done in self._finished:
            now.setdefault(done.work.envelope.identity, done)
        self._finished = [done for done in self._finished if now[done.work.envelope.identity] is not done]
        return list(now.values())

    async def _next(self, finished: Sequence[Finished]) -> list[Work]:
        """Return distinct new works, no more than the slots that are free when `finished` is durable."""
        free = self._size - len(self._slots) + sum(not self._abandoned(done) for done in finished)
        running = Counter(slot.work.handler.name for slot in self._slots.values())
        started = {identity for identity, _ in self._slots}
        chosen: dict[bytes, Work] = {}
        passed: list[Work] = []
        seen: list[Work] = []
        try:
            while len(chosen) < free and (self._wanted or await self._look_ahead()):
                work = self._wanted.popleft()
                seen.append(work)
                cap = work.handler.concurrency
                identity = work.envelope.identity
                if identity in started or identity in chosen or (cap and running[work.handler.name] >= cap):
                    # An equal key waits for the first one's end, a full handler for a free place: nobody behind them.
                    passed.append(work)
                else:
                    chosen[identity] = work
                    running[work.handler.name] += 1
        except StoreUnavailable:
            self._wanted.extendleft(reversed(seen))
            self._finished = [*finished, *self._finished]
            raise
        self._wanted.extendleft(reversed(passed))
        return list(chosen.values())

    async def _look_ahead(self) -> bool:
        """Filter known duplicates out of what has come in; return whether any may be new."""
        while self._incoming and not self._wanted:
            ahead = [self._incoming.popleft() for _ in range(min(len(self._incoming), LOOK_AHEAD))]
            try:
                fresh, known = await known_already(self._parts, ahead)
            except StoreUnavailable:
                self._incoming.extendleft(reversed(ahead))
                raise
            self._wanted += fresh
            for work, ending in known:
                self._in_hand.ended(work, ending)
        return bool(self._wanted)

    def _abandoned(self, done: Finished) -> bool:
        slot = self._slots.get(_name(done))
        return slot is None or slot.abandoned

    async def _take_due(self) -> bool:
        """Claim due entries into free slots; return whether there were any."""
        free = self._size - len(self._slots)
        if not self._due or free <= 0 or not self._handlers or not self._may_start():
            return False
        self._due = False
        running = Counter(slot.work.handler.name for slot in self._slots.values())
        any_taken = False
        self._taking = True
        try:
            for names, limit in self._shares(running, free):
                with self._parts.asks():
                    taken = await self._parts.arrivals.due(self._parts.worker, names, limit)
                    self._parts.away.answered(wrote=bool(taken))
                    self._start([begun for entry in taken if (begun := await self._begin(entry)) is not None])
                any_taken = any_taken or bool(taken)
                self._due = self._due or len(taken) >= limit
        finally:
            self._taking = False
        return any_taken

    def _shares(self, running: Counter[str], free: int) -> list[tuple[list[str], int]]:
        open_ended = [name for name, handler in self._handlers.items() if handler.concurrency is None]
        shares = [(open_ended, free)] if open_ended else []
        for name, handler in self._handlers.items():
            if handler.concurrency is not None:
                room = min(handler.concurrency - running[name], free)
                if room > 0:
                    shares.append(([name], room))
                else:
                    self._due = True
        return (
            shares[:1]
            if len(shares) == 1
            else [(names, max(1, limit // len(shares))) for names, limit in shares]
        )

    async def _begin(self, entry: Taken) -> tuple[Work, Won] | None:
        """Return what is to be started of an entry that was due; `None` where it has to be keyed anew first."""
        handler = self._handlers[entry.handler]
        won = Won(entry.token, entry.attempt)
        envelope = envelope_of(self._parts.app, handler, Message.decode(entry.message), stored=True)
        if not entry.keyed or isinstance(envelope, Unkeyed) or envelope.identity != entry.identity:
            await revive(self._parts, handler, entry, won)
            return None
        return Work(handler, envelope), won

    def _start(self, started: Sequence[tuple[Work, Won]]) -> None:
        """Start a task per key; handlers of batches get as many keys as their batch takes."""
        batched: dict[str, list[_Slot]] = {}
        for work, won in started:
            slot = _Slot(work, won, self._parts.clock.monotonic() + work.handler.timeout + GRACE)
            self._slots[work.envelope.identity, won.token] = slot
            size = work.handler.batch
            if size is None:
                self._run_slots([slot])
                continue
            waiting = batched.setdefault(work.handler.name, [])
            waiting.append(slot)
            if len(waiting) == size:
                self._run_slots(batched.pop(work.handler.name))
        for waiting in batched.values():
            self._run_slots(waiting)

    def _run_slots(self, slots: Sequence[_Slot]) -> None:
        task = asyncio.create_task(self._attempt(slots), name=slots[0].work.handler.name)
        for slot in slots:
            slot.task = task

    async def _attempt(self, slots: Sequence[_Slot]) -> None:
        first = slots[0]
        try:
            if first.work.handler.batch is None:
                told: list[Verdict] | Verdict = await attempt(self._parts, first.work, first.won)
            else:
                told = await attempt_batch(self._parts, [(slot.work, slot.won) for slot in slots])
            verdicts = [told] * len(slots) if isinstance(told, Verdict) else told
        except asyncio.CancelledError:
            verdicts = [stopped()] * len(slots)
        for slot, verdict in zip(slots, verdicts, strict=True):
            if slot.abandoned and not verdict.returned:
                self._slots.pop((slot.work.envelope.identity, slot.won.token), None)
            else:
                self._finished.append(Finished.of(self._parts, slot.work, slot.won, verdict))
        self._wake.set()

    def _give_up_overdue(self) -> None:
        """Settle for handlers that ignore their cancellation: their entries must not stay running for ever."""
        now = self._parts.clock.monotonic()
        for slot in self._slots.values():
            # One that has ended in time and waits for the store to hear of it is not overdue.
            if not slot.abandoned and slot.runs and now > slot.deadline:
                slot.abandoned = True
                _log.error("%s ignores its cancellation and keeps its slot", slot.work.handler.where)
                verdict = runs_on(slot.work)
                self._finished.append(Finished.of(self._parts, slot.work, slot.won, verdict))
