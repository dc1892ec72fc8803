"""Puts one process together: store, broker, path, lanes, slots, relay, pulse and sweep; and takes it apart in order."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.declare.handlers import Handler
from consumer.declare.resources import ProcessResources, ResourceRegistry
from consumer.errors import SettingsError, StoreUnavailable
from consumer.path.keying import in_transaction, mode_name
from consumer.path.parts import Observer, Parts, Work
from consumer.ports.store import Store
from consumer.ports.tracing import Tracing, Untraced
from consumer.ports.transport import Clock
from consumer.settings import Settings, redacted
from consumer.worker.caution import Caution
from consumer.worker.connect import Connections
from consumer.worker.figures import Figures
from consumer.worker.figures import measured as measured_of
from consumer.worker.inhand import InHand
from consumer.worker.intake import Intake
from consumer.worker.landing import Lander
from consumer.worker.lanes import Lanes, order_of
from consumer.worker.pulse import Pulse
from consumer.worker.relay import Relay
from consumer.worker.slots import Slots
from consumer.worker.sweep import Sweep

__all__ = ["Runtime", "SystemClock", "check_store"]

_log = logging.getLogger("consumer.worker")

DUE_EVERY = 0.25
"""Seconds between looks at what is due in the store; what this process lands itself is looked for at once."""

REVOKE_LIMIT = 5.0
"""Seconds that a rebalance waits for running handlers; what is unfinished then is its next owner's."""

LAST_BATCH = 5.0
"""Seconds that the end waits for the batch that is being published."""

UNFINISHED = 600.0
"""Seconds, beyond twice the longest time-out, that a message may be in hand, where the settings say nothing."""

LONGEST_SQLITE_TIMEOUT = 30.0
"""Seconds: SQLite has one writer, so a Transactional handler that takes longer would stop everybody else for too long."""

LONGEST_POSTGRES_TIMEOUT = 60.0
"""Seconds after which the server itself ends a transaction that idles, or a statement (`stores.postgres.IDLE`): a handler
that may take longer would be rolled back and started anew until its budget is spent."""


class SystemClock:
    """The process' own clock."""

    def monotonic(self) -> float:
        """See `ports.transport.Clock`."""
        return time.monotonic()

    def time(self) -> float:
        """See `ports.transport.Clock`."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See `ports.transport.Clock`."""
        await asyncio.sleep(seconds)


def check_store(store: Store, url: str, handlers: Sequence[Handler]) -> None:
    """Refuse, before anything is consumed, handlers whose promise this store cannot keep.

    Raises:
        SettingsError: names the handler and the mend (exit code 78).
    """
    url = redacted(url)
    for handler in handlers:
        if handler.ordered and not store.capabilities.lanes:
            raise SettingsError(
                f"at start: {handler.name} is ordered, {url} keeps no order; "
                "use postgresql:// or sqlite://, or take ordered= away"
            )
        if not in_transaction(handler):
            continue
        if not store.capabilities.transactions:
            raise SettingsError(
                f"at start: {handler.name} is Transactional, {url} has no transactions; "
                "use postgresql:// or sqlite://, or AtMostOnce()"
            )
        _check_timeout(store.capabilities.dialect, handler)


def _check_timeout(dialect: str, handler: Handler) -> None:
    """Refuse a Transactional handler whose time-out is longer than its store lets a transaction take."""
    if dialect == "sqlite" and handler.timeout > LONGEST_SQLITE_TIMEOUT:
        raise SettingsError(
            f"at start: {handler.name} is Transactional with timeout={handler.timeout:g}, and SQLite has one writer; "
            f"use timeout={LONGEST_SQLITE_TIMEOUT:g} or less, or postgresql://"
        )
    if dialect == "postgres" and handler.timeout > LONGEST_POSTGRES_TIMEOUT:
        raise SettingsError(
            f"at start: {handler.name} is Transactional with timeout={handler.timeout:g}, and PostgreSQL ends a "
            f"transaction that idles for {LONGEST_POSTGRES_TIMEOUT:g} s; use timeout={LONGEST_POSTGRES_TIMEOUT:g} or "
            "less, or wait for the outside world in a handler of another mode"
        )


class Runtime:
    """One process of an app.

    Args:
        app: the app's name.
        handlers: its operations.
        resources: its registered resources.
        settings: see `Settings`.
        connections: store (opened already) and broker.
        observer: sees every ending.
        given: ready-made resources by type (tests).
        clock: local deadlines.
        consumes: handlers are fed, once it is started.
        relays: the outbox is relayed, once it is started. Without `consumes` no handler ever runs here, so no resource
            is opened.
        tracing: draws what goes on; `None`: nothing does.
        measured: look up now and then what only store and broker know, for the metrics.

    Attributes:
        handlers: its operations.
        figures: what was looked up.
        source: the broker's; `None` where only the store delivers.
        unfinished: seconds for which the oldest message in hand has been there; 0 where none is.
    """

    def __init__(
        self,
        app: str,
        handlers: Sequence[Handler],
        resources: ResourceRegistry,
        settings: Settings,
        *,
        connections: Connections,
        observer: Observer,
        given: Mapping[Any, Any] | None = None,
        clock: Clock | None = None,
        consumes: bool = True,
        relays: bool = True,
        tracing: Tracing | None = None,
        measured: bool = False,
    ) -> None:
        store, source, sink = connections.store, connections.source, connections.sink
        self._consumes = consumes
        self._relays_only = relays and not consumes
        self.store = store
        self.handlers = self._handlers = handlers
        self._settings = settings
        self.source = self._source = source
        self._measured = measured
        self._subscribed = [
            t for t in sorted(connections.router.by_topic) if not connections.router.is_embedded(t)
        ]
        self._resources = ProcessResources(resources, given)
        self.parts = Parts(
            app,
            0,
            store.inbox,
            store.arrivals,
            store.groups,
            connections.router,
            self._resources,
            clock or SystemClock(),
            observer,
            tracing=tracing or Untraced(),
        )
        transactional = [h for h in handlers if in_transaction(h)]
        others = [h for h in handlers if not in_transaction(h)]
        in_hand = self._in_hand = InHand(source, self.parts.clock)
        self._caution = Caution(settings.in_hand, brokered=source is not None)
        self.lanes = Lanes(
            self.parts,
            transactional,
            in_hand,
            caution=self._caution,
            permitted=self._permitted,
            landed=self.look_for_due,
        )
        self.slots = Slots(
            self.parts,
            others,
            in_hand,
            size=settings.slots,
            permitted=self._permitted,
            landed=self.look_for_due,
        )
        self.lander = Lander(self.parts, in_hand, permitted=self._permitted, landed=self.look_for_due)
        self._intake = (
            Intake(self.parts, source, in_hand, self._dispatch, self.lander) if source and consumes else None
        )
        self.relay = Relay(self.parts, store.outbox, sink) if sink and relays else None
        self._pulse = Pulse(connections.reconnect, settings.worker_ttl) if connections.reconnect else None
        self.sweep = Sweep(
            self.parts,
            store,
            handlers,
            caution=self._caution,
            held=self._held,
            look_for_due=self.look_for_due,
            asks=not self._relays_only,
        )
        self.figures = Figures(self.parts, store, source, self._lanes_waiting)
        self.unfinished = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._failed: asyncio.Future[None] | None = None
        self._closing = False

    # --- start and stop -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the worker row, open the resources, adopt what the dead left. Nothing is consumed yet."""
        self.parts.worker = await self.store.workers.open(self._settings.worker_ttl, _about())
        if self._pulse is not None:
            self._pulse.bind(self.parts.worker)
            self._pulse.start()
        await self._resources.__aenter__()
        if not self._relays_only:
            needed = dict.fromkeys(need for h in self._handlers for need in (*h.needs, *h.reconcile_needs))
            await self._resources.open_all(needed)
            await self._remember_handlers()
        await self.sweep.adopt()

    async def start(self) -> None:
        """Begin to consume, relay and sweep."""
        self._failed = asyncio.get_running_loop().create_future()
        if self._intake is not None and self._source is not None and self._subscribed:
            await self._source.start(self._subscribed, self._revoked)
        every = min(max(self._settings.worker_ttl / 5, 0.5), 5.0)
        self._spawn(self._tick(), "tick")
        if self._consumes:
            self._spawn(self.lanes.run(), "lanes")
            self._spawn(self.slots.run(), "slots")
        self._spawn(self.sweep.run(every), "sweep")
        if self._measured:
            self._spawn(self.figures.run(), "figures")
        if self._intake is not None and self._subscribed:
            self._spawn(self._intake.run(), "intake")
        if self.relay is not None:
            self._spawn(self.relay.run(), "relay")

    async def failed(self) -> None:
        """Wait until a part of the worker has ended, by a bug or for good (`SettingsError`); raises what ended it."""
        if self._failed is not None:
            await asyncio.shield(self._failed)

    async def drain(self, grace: float) -> bool:
        """Start nothing more, let what runs end, at most for `grace` seconds; then ask it to stop.

        Returns:
            Whether everything in hand has ended and was settled.
        """
        self._closing = True
        self.lanes.stop()
        self.slots.stop()
        if self._intake is not None:
            self._intake.stopping = True
        clean = True
        # What settles may have ended itself: then nobody can be waited for.
        fed = [task for task in self._tasks if task.get_name() in {"lanes", "slots"}]
        dead = any(task.done() and not task.cancelled() and task.exception() for task in fed)
        try:
            async with asyncio.timeout(min(grace, 1.0) if dead else grace):
                await self.lanes.idle()
                await self.slots.idle()
                await self._calls_end()
        except TimeoutError:
            clean = False
            self.slots.cancel()
            try:
                async with asyncio.timeout(3):
                    await self.slots.idle()
            except TimeoutError:
                _log.error(
                    "handlers still run after the grace; their keys will be adopted when this worker lapses"
                )
        return clean and not self.slots.stuck and not self.lanes.left_behind

    async def close(self, *, clean: bool = True) -> None:
        """Leave the broker and the store; `clean` says that nothing of this worker runs any more but direct calls."""
        self._closing = True
        clean = await self._end_calls(wait=clean) and clean
        if self.relay is not None:
            self.relay.stop()
        if self._source is not None:
            await self._source.stop()
        relaying = {task for task in self._tasks if task.get_name() == "relay"}
        if (
            relaying
        ):  # what is being published is marked, where the broker answers: else it is published twice
            await asyncio.wait(relaying, timeout=LAST_BATCH)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.__aexit__(None, None, None)
        if self._pulse is not None:
            self._pulse.stop()
        if clean and self.parts.worker:
            try:
                await self.store.workers.close(self.parts.worker)
            except StoreUnavailable as fault:
                _log.warning("the worker could not be closed, it will lapse: %s", fault)

    # --- what the parts ask -------------------------------------------------------------------------------------------

    def look_for_due(self) -> None:
        """Entries may have become due: look now."""
        self.lanes.look_for_due()
        self.slots.look_for_due()
        if self.relay is not None:
            self.relay.wake()

    @property
    def ready(self) -> bool:
        """Whether this process can take work now."""
        return not (self._closing or self.store_away or self.slots.stuck >= self._settings.slots)

    @property
    def store_away(self) -> str | None:
        """Why the store need not be asked for a caller who waits; `None`: it answers, as far as is known here."""
        if not self._permitted():
            return "its sign of life is not renewed: the store does not answer, or the event loop is held"
        if self.parts.away.known:
            return f"the store has not answered for {self.parts.away.seconds:.0f} s"
        return None

    @property
    def rebalances(self) -> int:
        """How often a broker has assigned partitions to this process."""
        source = measured_of(self._source)
        return 0 if source is None else source.rebalances

    @property
    def stuck(self) -> int:
        """How many handlers ignore their cancellation."""
        return self.slots.stuck + len(self.lanes.left_behind)

    def troubles(self) -> list[str]:
        """Why this process cannot take work now, for people; empty where it can. Asks nobody, so any thread may call it."""
        found = []
        if self._closing:
            found.append("it is ending")
        elif (away := self.store_away) is not None:
            found.append(away)
        if self.slots.stuck >= self._settings.slots:
            found.append("handlers that ignore their cancellation hold every slot")
        source = measured_of(self._source)
        if self._intake is not None and self._subscribed and source is not None and not source.healthy:
            found += source.troubles or ["the broker does not answer, or a partition cannot be read"]
        if self._intake is not None and self._intake.refused:
            found.append("the broker refuses access: the log says to what")
        if self._relays_only and self.relay is not None and self.relay.broker_away:
            found.append("the broker does not take what is in the outbox")
        if self.unfinished > self._unfinished_limit():
            found.append(f"a message has been in hand for {self.unfinished:.0f} s")
        return found

    def dead(self) -> list[str]:
        """The parts of this process that have ended by a bug."""
        return [
            f"{task.get_name()} has ended by a bug"
            for task in self._tasks
            if task.done() and not task.cancelled() and not isinstance(task.exception(), SettingsError | None)
        ]

    def _unfinished_limit(self) -> float:
        longest = max((handler.timeout for handler in self._handlers), default=0.0)
        return self._settings.unfinished_limit or UNFINISHED + 2 * longest

    def _oldest(self) -> float:
        """Return the seconds for which the oldest message in hand has been there, from a broker or from the store."""
        now = self.parts.clock.monotonic()
        since = [a.deadline - a.work.handler.timeout for a in self.parts.running.values()]
        oldest = self._in_hand.oldest
        return max(now - min(since if oldest is None else [*since, oldest], default=now), 0.0)

    def _lanes_waiting(self) -> dict[str, int]:
        orders: dict[str, set[bytes | str]] = {handler.name: set() for handler in self._handlers}
        for work in (*self.lanes.waiting(), *self.slots.waiting(), *self.lander.waiting()):
            orders[work.handler.name].add(order_of(work))
        return {name: len(found) for name, found in orders.items()}

    def _permitted(self) -> bool:
        return self._pulse is None or self._pulse.fresh

    async def _calls_end(self) -> None:
        while self.parts.calls:
            await asyncio.wait(set(self.parts.calls))

    async def _end_calls(self, *, wait: bool) -> bool:
        """Let direct calls come to their end (with `wait`: within the grace), then stop them; whether all are settled."""
        try:
            async with asyncio.timeout(self._settings.grace if wait else 0):
                await self._calls_end()
        except TimeoutError:
            stopped = set(self.parts.calls)
            for call in stopped:
                self.parts.stop(call)
            await asyncio.wait(stopped, timeout=3)
            return False
        try:
            await self.sweep.settle_owed()
        except StoreUnavailable as fault:
            _log.warning("a direct call could not be settled, its worker will lapse: %s", fault)
        return not self.parts.owed

    def _dispatch(self, work: Work) -> None:
        if in_transaction(work.handler):
            self.lanes.put(work)
        else:
            self.slots.put(work)

    def _held(self) -> dict[bytes, int]:
        held = self.slots.held() | {s.identity: s.token for s in self.parts.owed.values()}
        held.update({a.work.envelope.identity: a.won.token for a in self.parts.running.values()})
        return held

    async def _revoked(self) -> None:
        """Before partitions are given up: start nothing, let what runs end for a bounded time, forget the rest."""
        self.lanes.paused = self.slots.paused = True
        try:
            self.lanes.forget_queued()
            self.slots.forget_queued()
            async with asyncio.timeout(REVOKE_LIMIT):
                await self.lanes.idle()
                await self.slots.idle()
        except TimeoutError:
            _log.warning("handlers run on through the rebalance; the next owner asks about their keys")
        finally:
            self.lanes.forget_queued()
            self.lanes.paused = self.slots.paused = False

    async def _tick(self) -> None:
        """Show the pulse that the loop is alive, look for due entries, and replace a worker that was closed."""
        while True:
            if self._pulse is not None:
                self._pulse.tick()
                if self._pulse.lost:
                    await self._new_worker(self._pulse)
            self.lanes.look_for_due()
            self.slots.look_for_due()
            self.unfinished = self._oldest()
            await asyncio.sleep(DUE_EVERY)

    async def _new_worker(self, pulse: Pulse) -> None:
        self.slots.claim_anew()
        self.slots.cancel()  # what ran under the closed worker may be adopted; its late settlements still count
        try:
            self.parts.worker = await self.store.workers.open(self._settings.worker_ttl, _about())
        except StoreUnavailable as fault:
            self.parts.away.refused(fault)
            return
        pulse.bind(self.parts.worker)
        _log.warning("this process goes on as worker %d", self.parts.worker)

    async def _remember_handlers(self) -> None:
        known = await self.store.operator.declare(
            self.parts.app, {h.name: mode_name(h) for h in self._handlers}
        )
        now = {h.name for h in self._handlers}
        gone, new = known.keys() - now, now - known.keys()
        if gone and new and known:
            _log.warning(
                "handlers %s are not in this process, and %s are new: if one was renamed, its keys were not "
                "(give it name='…', the old one); two deployments side by side are normal in a rollout",
                sorted(gone),
                sorted(new),
            )

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        fault = task.exception()
        if fault is None:
            return
        if not isinstance(fault, SettingsError):  # that is no bug, and said by whoever waits for `failed`
            _log.critical("%s ended by a bug: %r", task.get_name(), fault, exc_info=fault)
        self._failed.set_exception(fault)


def _about() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
