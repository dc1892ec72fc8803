"""A running app on a real store, with what a test wants to see of it."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from msgspec import Struct

from consumer import App
from consumer.app import Running
from consumer.declare.outgoing import outgoing_of
from consumer.entry import Entry, Landed, Landing, State
from consumer.message import Outgoing
from consumer.path.parts import Ending, Work
from consumer.path.routing import Router
from consumer.ports.store import Store
from consumer.ports.transport import Published, Source
from consumer.settings import Settings
from consumer.stores import open_store
from consumer.worker.connect import Connections

__all__ = ["Order", "RecordingSink", "Shop", "Watch", "migrated", "opened", "select"]

PATIENCE = 20.0
"""Seconds until a test says that what it waits for does not come."""

EFFECTS = "create table if not exists effects (id text, what text)"
"""The handlers' own table: no constraint helps them."""


class Order(Struct):
    """A payload that says what its handler shall do."""

    id: str
    do: str = "return"
    amount: int = 1


class Watch:
    """Remembers every ending; wakes whoever waits for the next one."""

    def __init__(self) -> None:
        self.endings: list[tuple[str, Ending]] = []
        self.moved = asyncio.Event()

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        self.endings.append((work.envelope.key.decode(), ending))
        self.moved.set()

    def arrived(self, landing: Landing, landed: Landed) -> None:
        self.moved.set()

    def of(self, key: str) -> list[Ending]:
        return [ending for name, ending in self.endings if name == key]


class RecordingSink:
    """Takes everything, in memory."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        self.published += [message for _, message in messages]
        return [Published()] * len(messages)


@dataclass(slots=True)
class Shop:
    """One running process of an app."""

    running: Running
    url: str
    sink: RecordingSink
    watch: Watch
    source: Any = None
    observed: Any = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.running.runtime.store

    async def publish(self, topic: str, orders: Iterable[Order]) -> None:
        for order in orders:
            await self.running.publish(topic, order)

    async def publish_at_once(self, topic: str, orders: Iterable[Order]) -> None:
        """In one commit: the first look for what is due sees all of them."""
        bare: dict[str, Any] = {"ordering_key": None, "headers": (), "delay": 0}
        await self.running.publish_all(
            [outgoing_of(uuid.uuid4().bytes, topic, order, **bare) for order in orders]
        )

    async def entries(self, *states: State) -> list[Entry]:
        return await self.store.operator.entries(states=states)

    async def entry(self, key: str, handler: str | None = None) -> Entry:
        """The key's own entry, with its story."""
        found = await self.store.operator.find(key.encode(), handler=handler)
        [entry] = [entry for entry in found if entry.keyed]
        return entry

    async def states(self) -> dict[str, str]:
        return {entry.key.decode(): entry.state.word for entry in await self.entries() if entry.keyed}

    async def effects(self) -> list[str]:
        return [row[0] for row in await select(self.url, "select id from effects order by id")]

    async def until(self, condition: Callable[[], Any], patience: float = PATIENCE) -> None:
        """Wait until `condition` (it may be async) holds, looking again whenever a delivery has come to an end."""
        try:
            async with asyncio.timeout(patience):
                while not await _truth(condition):
                    self.watch.moved.clear()
                    self.running.runtime.look_for_due()
                    try:
                        async with asyncio.timeout(0.03):
                            await self.watch.moved.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            states = [(e.key, e.state.word, e.attempts, e.reason) for e in await self.entries()]
            raise AssertionError(f"does not come; entries: {states}; endings: {self.watch.endings}") from None

    async def rest(self) -> None:
        """Wait until nothing runs or is due, the outbox is empty and the source, if there is one, settled."""
        await self.until(self._resting)

    async def rest_but_left_behind(self) -> None:
        """As `rest`, although handlers that were given up still run."""
        await self.until(self._resting_but_left_behind)

    async def _resting(self) -> bool:
        runtime = self.running.runtime
        return (
            not runtime.slots.running and not runtime.parts.running and await self._resting_but_left_behind()
        )

    async def _resting_but_left_behind(self) -> bool:
        if self.source is not None and not self.source.settled:
            return False
        horizon = self.running.runtime.parts.clock.time() + 60
        for entry in await self.entries(State.RECEIVED, State.RUNNING, State.WAITING):
            if entry.state is not State.WAITING or entry.due_at is None or entry.due_at < horizon:
                return False
        return not await self.store.operator.outgoing(parked=False, limit=1)


async def _truth(condition: Callable[[], Any]) -> bool:
    answer = condition()
    return bool(await answer if asyncio.iscoroutine(answer) else answer)


async def migrated(app: App, url: str) -> None:
    """Make the framework's tables and the app's own."""
    app.schema(postgres=[EFFECTS], sqlite=[EFFECTS])
    store = open_store(url, app.name)
    await store.open(check=False)
    await store.migrate(app.own_schema(store.capabilities.dialect))
    await store.close()


@asynccontextmanager
async def opened(
    app: App,
    url: str,
    *,
    source: Source | None = None,
    wrap: Callable[[Store], Store] | None = None,
    sink: RecordingSink | None = None,
    consume: bool = True,
    migrate: bool = True,
    reconnect: bool = True,
    observed: bool = False,
    **settings: Any,
) -> AsyncIterator[Shop]:
    """Run `app` on the store `url`: fed by `source`, or (without one) by the store itself.

    Args:
        app: its published messages always leave through the outbox.
        url: a store that exists.
        source: where its topics come from; `None`: they live in the store.
        wrap: puts something between the runtime and the store.
        sink: default: a new one.
        consume: start the worker.
        migrate: make the tables first.
        reconnect: renew the sign of life; without it nobody notices that the worker was closed.
        observed: count what happens; `Shop.observed` tells.
        settings: see `Settings`.
    """
    if migrate:
        await migrated(app, url)
    handlers = app.handlers.declared
    embedded = frozenset() if source is not None else frozenset(t for h in handlers for t in h.topics)
    store = open_store(url, app.name)
    given = wrap(store) if wrap is not None else store
    sink = RecordingSink() if sink is None else sink
    again = (lambda: open_store(url, app.name)) if reconnect else None
    connections = Connections(given, again, source, sink, Router(app.name, handlers, embedded))
    watch = Watch()
    chosen = Settings(store=url, **({"grace": 5.0} | settings))
    observer = app.observed(chosen, watch) if observed else None
    async with app.running(
        chosen, consume=consume, observer=observer or watch, connections=connections
    ) as running:
        shop = Shop(running, url, sink, watch, source, observed=observer)
        if observer is None:
            yield shop
            return
        observer.opened(running.runtime, running.desk)
        with observer.served():
            yield shop


async def select(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Read from the database, beside the product."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection:
            return [tuple(row) for row in connection.execute(sql).fetchall()]
    database = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await database.fetch(sql)]
    finally:
        await database.close()
