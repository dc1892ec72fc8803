"""The desk: where calls and landings arrive one by one, each with somebody who waits for the answer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from consumer.declare.handler import Handler
from consumer.entry import Claim, Landed, Landing, OnLapse, State
from consumer.errors import BrokerUnavailable, GroupFault, StoreUnavailable, WritesRefused
from consumer.message import Envelope, Message
from consumer.path.coalesce import Coalesced
from consumer.path.direct import Called, call, held_by
from consumer.path.fields import say_landed
from consumer.path.forward import Forwarder, Leaving
from consumer.path.keying import Unkeyed, claim_of, envelope_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.timer import Limit, Timer
from consumer.path.together import Together
from consumer.ports.tracing import Tracing
from consumer.rules.modes import MODES

__all__ = ["RESULTS", "STORE_LIMIT", "Desk"]

_log = logging.getLogger("consumer.ingest")

RESULTS = (
    "landed",
    "forwarded",
    "duplicate",
    "ignored",
    "conflict",
    "rejected",
    "failed",
    "unread",
    "unavailable",
    "refused",
    "missing",
    "malformed",
    "stale",
    "future",
    "mismatch",
)
"""What may become of a webhook request; from `missing` on (and `duplicate`, where a signature comes twice) its gate refuses."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
"""Seconds between questions about a key that somebody else runs: doubled from the first to the longest."""

MOST_CALLS = 256
"""Calls under way in one process: beyond, they would only queue for connections."""

MOST_LANDINGS = 5_000
"""Requests that wait for a landing: beyond, the store is too slow, and senders shall come again later."""

STORE_LIMIT = 10.0
"""Seconds for which a store may keep a caller waiting while no handler runs: one limit over all that is asked of it, since a
statement's time-out and a new connection's add up."""

LOOK_LIMIT = 2.0
"""Seconds after which a store that has not answered a look counts as away."""


class Desk:
    """Serves one process' calls and landings.

    Args:
        parts: what the path works with.
        ready: whether this process may take work now.
        landed: called when entries may have become due.
        limit: see `STORE_LIMIT`.
        forwarder: publishes what webhooks bring, for topics that live on a broker; `None`: all of it lands in the store.

    Attributes:
        counts: what was answered, by (way in, outcome), for metrics.
        results: what became of webhook requests, by (provider, one of `RESULTS`).
        secrets: authentic webhook requests, by (provider, which of its secrets matched).
    """

    def __init__(
        self,
        parts: Parts,
        *,
        ready: Callable[[], bool],
        landed: Callable[[], None],
        limit: float = STORE_LIMIT,
        forwarder: Forwarder | None = None,
    ) -> None:
        self._parts = parts
        self._forwarder = forwarder
        self._limit = limit
        self._ready = ready
        self._landed = landed
        self._under_way: dict[bytes, tuple[bytes, asyncio.Future[Called]]] = {}
        self._land = Coalesced(parts.arrivals.land)
        self._look = Coalesced(parts.inbox.look)
        self._together = Together(parts)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.results: Counter[tuple[str, str]] = Counter()
        self.secrets: Counter[tuple[str, str]] = Counter()

    @property
    def app(self) -> str:
        """The app's name."""
        return self._parts.app

    @property
    def timer(self) -> Timer:
        """Ends what takes too long."""
        return self._parts.timer

    @property
    def tracing(self) -> Tracing:
        """Draws what goes on, where the process traces."""
        return self._parts.tracing

    @property
    def full(self) -> bool:
        """Whether there is so much under way that more would only wait."""
        leaving = 0 if self._forwarder is None else self._forwarder.waiting
        busy = len(self._parts.calls) >= MOST_CALLS or self._land.waiting >= MOST_LANDINGS
        return busy or leaving >= MOST_LANDINGS

    @property
    def ready(self) -> bool:
        """Whether this process may take work now."""
        return self._ready()

    def subscribers(self, topic: str) -> Sequence[Handler]:
        """Return the handlers of a topic."""
        return self._parts.router.by_topic.get(topic, ())

    def now(self) -> float:
        """Return seconds since 1970 by the process' clock."""
        return self._parts.clock.time()

    def envelope(self, handler: Handler, message: Message) -> Envelope | Unkeyed:
        """Decode and key a message of a caller."""
        return envelope_of(self._parts.app, handler, message)

    async def call(self, work: Work) -> Called:
        """Run `work`, or answer with what its entry knows. A caller that leaves does not stop what has started.

        Raises:
            BrokerUnavailable: this process may not start anything now.
            StoreUnavailable, GroupFault: see `path.direct.call`; also after `STORE_LIMIT`. It goes on: asked again, the key tells.
        """
        with self._writing():
            task = self._begin(work)
            limit = self._limited()
            try:
                with limit:
                    return await asyncio.shield(task)
            except TimeoutError:
                if limit.expired and self._kept_waiting(task, work):
                    raise self._silent() from None
            return await asyncio.shield(task)

    async def ask(self, work: Work, wait: float) -> Called:
        """As `call`; a key that is being worked on is waited for, up to `wait` seconds, without holding a connection."""
        clock = self._parts.clock
        until = clock.monotonic() + wait
        pause = FIRST_PAUSE
        while True:
            other = self._under_way.get(work.envelope.identity)
            if other is None:
                called = await self.call(work)
                if called.ending.state not in _MOVING:
                    return called
            else:
                fingerprint, task = other
                if fingerprint != work.envelope.fingerprint:
                    return _CONFLICT
                called = await _outcome(task, until - clock.monotonic())
                if called.ending.state is State.ABSENT:
                    await asyncio.sleep(0)  # what it was doing is undone, so the key is ours to start
                    continue
                if called.ending.state not in _MOVING:
                    return called
            left = until - clock.monotonic()
            if left <= 0:
                return called
            await clock.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def made_at(self, work: Work) -> float | None:
        """Return when the key's entry was made, by the store's clock; `None` where the store does not say now."""
        try:
            [answer] = await self._look([claim_of(work.handler, work.envelope)])
        except StoreUnavailable:
            return None
        return held_by(answer).created_at

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably, in one commit with whatever else arrives now.

        Raises:
            StoreUnavailable: they may have been written; the sender comes again, and finds duplicates. Also after
                `STORE_LIMIT`.
        """
        with self._writing():
            try:
                with self._limited():
                    landed = await self._land(landings)
            except TimeoutError:
                raise self._silent() from None
        self._parts.away.answered(wrote=Landed.NEW in landed)
        for landing, how in zip(landings, landed, strict=True):
            self._parts.observer.arrived(landing, how)
            say_landed(_log, landing, how)
        self._landed()
        return landed

    def forwards(self, topic: str) -> bool:
        """Whether a webhook's events go to the broker on which `topic` lives, and not into the store."""
        return self._forwarder is not None and self._forwarder.takes(topic)

    async def forward(self, leaving: Sequence[Leaving]) -> list[Landing]:
        """Publish events of webhooks; see `Forwarder.forward`. Returns the dead letters that are to be landed.

        Raises:
            BrokerUnavailable: they may have been published; the sender comes again, and their keys tell.
        """
        if self._forwarder is None:
            raise BrokerUnavailable("webhooks are not forwarded here")
        return await self._forwarder.forward(leaving)

    async def answers(self) -> bool:
        """Whether the store answers now; and the broker, where webhooks go to it."""
        if not await self._store_answers():
            return False
        return self._forwarder is None or await self._forwarder.answers()

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                await self._parts.inbox.look([_NOBODYS])
        except StoreUnavailable as fault:
            self._parts.away.refused(fault)
            return False
        except TimeoutError:
            self._parts.away.refused(StoreUnavailable(f"no answer within {LOOK_LIMIT:g} s"))
            return False
        self._parts.away.answered(wrote=False)
        return self._parts.away.seconds == 0

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Note that the store does not take what is written."""
        try:
            yield
        except WritesRefused as fault:
            self._parts.away.refused(fault)
            raise

    async def idle(self) -> None:
        """Wait until nothing is being landed or forwarded (calls are the runtime's to wait for)."""
        if self._forwarder is not None:
            await self._forwarder.idle()
        await self._land.idle()

    def _limited(self) -> Limit:
        task = asyncio.current_task()
        assert task is not None, "callers come in tasks"  # noqa: S101
        return self._parts.timer.limit(task, self._limit)

    def _kept_waiting(self, task: asyncio.Future[Called], work: Work) -> bool:
        """Whether it is the store that keeps a call waiting."""
        # In a lane it may stand in line; and where a handler runs, others may wait for its connection.
        return not task.done() and work.envelope.lane is None and not self._parts.running

    def _silent(self) -> WritesRefused:
        return WritesRefused(f"the store has kept a caller waiting for {self._limit:g} s")

    def _begin(self, work: Work) -> asyncio.Future[Called]:
        if not self._ready():
            raise BrokerUnavailable("this process is not ready: it ends, or the store does not answer")
        # In a lane a call stands in line, and lands first: that is a commit of its own.
        shared = MODES[type(work.handler.mode)].in_transaction and work.envelope.lane is None
        task: asyncio.Future[Called] = (
            self._together.call(work) if shared else asyncio.create_task(call(self._parts, work))
        )
        identity = work.envelope.identity
        # From this moment on, and not when it first runs: the end of the process must see it.
        self._parts.calls.add(task)
        if identity not in self._under_way:
            self._under_way[identity] = work.envelope.fingerprint, task
        task.add_done_callback(lambda ended: self._ended(identity, ended))
        return task

    def _ended(self, identity: bytes, task: asyncio.Future[Called]) -> None:
        self._parts.calls.discard(task)
        known = self._under_way.get(identity)
        if known is not None and known[1] is task:
            del self._under_way[identity]
        # Its caller may be gone: then nobody is left to be told.
        if not task.cancelled() and task.exception() is None:
            ending = task.result().ending
            self._parts.away.answered(wrote=not ending.duplicate and ending.state is not State.ABSENT)
        self._landed()


_MOVING = {State.RECEIVED, State.RUNNING, State.WAITING}
_NOBODYS = Claim(bytes(16), "public", "-", b"-", bytes(16), 1, OnLapse.WAITING, 1)
_IN_FLIGHT = Called(Ending(State.RUNNING, ack=False, duplicate=True, reason="the key is running"))
_CONFLICT = Called(
    Ending(
        State.DEAD,
        ack=False,
        duplicate=True,
        conflict=True,
        reason="this key is being used with another payload",
    )
)


async def _outcome(task: asyncio.Future[Called], wait: float) -> Called:
    """Wait for another caller's attempt; what it made is a replay for us. What was released is ours to start."""
    if wait > 0:
        await asyncio.wait({task}, timeout=wait)
    if not task.done():
        return _IN_FLIGHT
    if task.cancelled() or isinstance(task.exception(), StoreUnavailable | GroupFault | BrokerUnavailable):
        return held_by(None)
    called = task.result()
    ending = msgspec.structs.replace(called.ending, duplicate=True)
    return msgspec.structs.replace(called, ending=ending)
