"""What the path works with, and what it makes of a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from consumer.declare.handlers import Handler
from consumer.declare.resources import ProcessResources
from consumer.entry import Landed, Landing, Settle, State, Won
from consumer.errors import SettingsError
from consumer.message import Delivery, Envelope
from consumer.path.away import Away
from consumer.path.routing import Router
from consumer.path.timer import Timer
from consumer.ports.arrivals import Arrivals
from consumer.ports.inbox import Group, Groups, Inbox
from consumer.ports.tracing import Tracing, Untraced
from consumer.ports.transport import Clock

__all__ = ["Attempt", "Ending", "Observer", "Parts", "Work"]


class Ending(msgspec.Struct, frozen=True, gc=False):
    """What became of one delivery at one handler.

    Attributes:
        state: the entry's state now, as far as this process knows; `ABSENT` where it was released.
        ack: this handler's entry permits the acknowledgement (`pipeline.permits_ack`).
        duplicate: this delivery started nothing: the entry was there.
        conflict: the key is taken by another payload; the delivery was born dead beside it.
        attempt, token: of the entry.
        result: the stored result, where the entry is done.
        reason: why it waits, is dead, in doubt or not acknowledged.
        delay: seconds until its next attempt, where it waits.
    """

    state: State
    ack: bool
    duplicate: bool = False
    conflict: bool = False
    attempt: int = 0
    token: int = 0
    result: bytes | None = None
    reason: str | None = None
    delay: float | None = None


class Work(msgspec.Struct, gc=False):
    """One envelope on its way to one handler.

    Attributes:
        handler: the operation.
        envelope: the decoded and keyed message.
        delivery: the arrival that it belongs to; `None` where the store delivers it.
        asked: how often its entry was found running elsewhere so far.
    """

    handler: Handler
    envelope: Envelope
    delivery: Delivery | None = None
    asked: int = 0


class Attempt(msgspec.Struct, gc=False):
    """A handler that is running now.

    Attributes:
        work, won: what runs, under which claim.
        deadline: when it should have ended, by the process' clock.
        group: its open transaction, for Transactional handlers.
        abandoned: it ignored its cancellation, and the path went on without it.
        stopping: the runtime has asked it to stop; any other cancellation is the handler's own doing.
    """

    work: Work
    won: Won
    deadline: float
    group: Group | None = None
    abandoned: bool = False
    stopping: bool = False


class Observer(Protocol):
    """Sees every ending once, for logs, the terminal and metrics. Must not raise, must not block."""

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        """A delivery came to its end at a handler.

        Args:
            work: what ran, or was found done.
            ending: how it ended.
            seconds: how long its handler ran (0 for duplicates).
        """
        ...

    def arrived(self, landing: Landing, landed: Landed) -> None:
        """A message was landed: it lies in the store now, and has not been run.

        Args:
            landing: its entry; `DEAD` where it cannot be keyed.
            landed: whether it was new, there already, or in conflict with what was there.
        """
        ...


@dataclass(slots=True)
class Parts:
    """Everything that the path needs, handed in by `worker.wiring`; nothing is ambient.

    Attributes:
        app: the app's name.
        worker: this process' number in the store; another one after a lapse.
        inbox: claims and settles.
        arrivals: landing, and what the store delivers.
        groups: transactions for Transactional handlers; `None` on stores that have none.
        router: where outgoing messages go.
        resources: opened resources.
        clock: local deadlines.
        observer: sees every ending.
        running: the attempts that run now, by the task that runs them.
        calls: the direct calls under way: a process that leaves cleanly waits for them.
        owed: settles of direct calls that the store has not taken yet, by identity: their keys have run, so their claims
            must be settled, and never be released as if nobody had started them.
        asking: the questions under way that may win claims: what the store says that this process has, and what it has not
            been told of yet, may be on its way.
        timer: their time-outs.
        away: whether the store answers, as the parts of this process have noticed.
        tracing: draws what goes on, where the process traces.
    """

    app: str
    worker: int
    inbox: Inbox
    arrivals: Arrivals
    groups: Groups | None
    router: Router
    resources: ProcessResources
    clock: Clock
    observer: Observer
    running: dict[asyncio.Task[Any], Attempt] = field(default_factory=dict)
    calls: set[asyncio.Future[Any]] = field(default_factory=set)
    owed: dict[bytes, Settle] = field(default_factory=dict)
    asking: set[object] = field(default_factory=set)
    timer: Timer = field(default_factory=Timer)
    away: Away = field(default_factory=Away)
    tracing: Tracing = field(default_factory=Untraced)

    @contextmanager
    def asks(self) -> Iterator[None]:
        """Ask within this block for claims: those that it wins are running, or told of, before it is left."""
        question = object()
        self.asking.add(question)
        try:
            yield
        finally:
            self.asking.discard(question)

    def stop(self, task: asyncio.Future[Any]) -> None:
        """Ask `task` to stop, and let the attempt that it runs know that it was the runtime who asked."""
        running = self.running.get(task) if isinstance(task, asyncio.Task) else None
        if running is not None:
            running.stopping = True
        task.cancel()

    @property
    def transactions(self) -> Groups:
        """The groups of a store that has them (start-up refuses Transactional handlers on others)."""
        if self.groups is None:
            raise SettingsError("this store has no transactions; use postgresql:// or sqlite://")
        return self.groups
