"""`Harness`: an app on a throw-away store, for users' tests. Time does not pass: what waits is due at once.

It runs the real path on a temporary SQLite file; what is not real is only that nobody waits for a retry's delay.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from consumer.app import App, Running
from consumer.declare.handlers import Handler
from consumer.declare.outgoing import HeaderItems
from consumer.entry import Entry, Landing, State, StoryLine
from consumer.errors import ConsumerError
from consumer.message import Message, Outgoing
from consumer.path.keying import Unkeyed, envelope_of
from consumer.path.routing import Router
from consumer.ports.store import Store
from consumer.ports.transport import Published
from consumer.settings import Settings
from consumer.stores import open_store
from consumer.worker.connect import Connections

__all__ = ["Harness", "Story"]

PATIENCE = 20.0
"""Seconds that one delivery may take in all before the harness gives up: longer handlers need a shorter `timeout=`."""


class Story(msgspec.Struct, frozen=True):
    """An entry and its attempts, as a test asks about them.

    Attributes:
        state: `done`, `dead`, `in_doubt`, ...; `absent` where no entry was made.
        starts: how often the handler was started for this key, in this harness.
        attempts: the attempts that are counted (a redrive starts anew).
        result: the stored result, decoded from JSON.
        reason: why it is dead or in doubt.
        lines: what else happened, in order.
    """

    state: str
    starts: int
    attempts: int
    result: Any
    reason: str | None
    lines: tuple[StoryLine, ...]


class Harness:
    """`async with Harness(app, resources={Psp: FakePsp()}) as shop: story = await shop.deliver("topic", payload)`.

    Args:
        app: the app under test; it is not changed.
        resources: ready-made resources by type, used in the stead of the declared ones.
    """

    def __init__(self, app: App, *, resources: Mapping[Any, Any] | None = None) -> None:
        self._app = app
        self._given = dict(resources or {})
        self._starts: Counter[tuple[str, str, bytes]] = Counter()
        self._folder = tempfile.TemporaryDirectory(prefix="consumer-harness-")
        self._file = Path(self._folder.name) / "harness.db"
        self._handlers = tuple(self._counted(handler) for handler in app.handlers.declared)
        self._running_cm: Any = None
        self._running: Running | None = None
        self.published: list[Outgoing] = []
        """What was committed and published, each message once, in the order of its first publication."""

    async def __aenter__(self) -> Self:
        url = f"sqlite:///{self._file}"
        store = open_store(url, self._app.name)
        await store.open(check=False)
        await store.migrate(self._app.own_schema(store.capabilities.dialect))
        # Everything leaves through the outbox and comes back through this sink: published means committed and relayed.
        sink = _Recorder(store, Router(self._app.name, self._handlers), self.published)
        connections = Connections(
            store, None, None, sink, Router(self._app.name, self._handlers, frozenset())
        )
        settings = Settings(store=url, grace=1.0)
        self._running_cm = self._app.running(
            settings, consume=True, given=self._given, connections=connections, handlers=self._handlers
        )
        self._running = await self._running_cm.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._running_cm.__aexit__(kind, error, trace)
        finally:
            self._folder.cleanup()

    @property
    def running(self) -> Running:
        """The opened app, for `call` and `publish`.

        Raises:
            ConsumerError: outside of `async with`.
        """
        if self._running is None:
            raise ConsumerError("Harness: use it as `async with Harness(app) as shop:`")
        return self._running

    async def deliver(
        self,
        topic: str,
        payload: Any,
        *,
        times: int = 1,
        headers: HeaderItems = (),
        handler: str | None = None,
        ordering_key: str | None = None,
    ) -> Story:
        """Deliver a message so many times, run until everything is at rest, and tell what became of its key.

        Args:
            topic: where it is published.
            payload: of the handler's type, or bytes as they are.
            times: how often the same message is delivered.
            headers: names and values.
            handler: whose story is told, where a topic has several handlers.
            ordering_key: as of `Running.publish`.

        Raises:
            ConsumerError: nobody subscribes to the topic, or it does not come to rest.
        """
        subscribed = [h for h in self._handlers if topic in h.topics and handler in {None, h.name}]
        if not subscribed:
            raise ConsumerError(f"Harness: no handler of {self._app.name!r} subscribes to {topic!r}")
        value = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        for _ in range(times):
            await self.running.publish(topic, value, headers=headers, ordering_key=ordering_key)
        await self.rest()
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        encoded = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in pairs)
        message = Message(topic, value, encoded, ordering_key=ordering_key)
        envelope = envelope_of(self._app.name, subscribed[0], message)
        if isinstance(envelope, Unkeyed):
            return await self._newest_dead(subscribed[0])
        return await self.story(envelope.key, handler=subscribed[0].name, tenant=envelope.tenant)

    async def story(self, key: str | bytes, *, handler: str | None = None, tenant: str = "public") -> Story:
        """Tell what became of a key."""
        raw = key.encode() if isinstance(key, str) else key
        found = await self.running.runtime.store.operator.find(raw, handler=handler, tenant=tenant)
        for entry in sorted(found, key=lambda entry: not entry.keyed):
            return self._story_of(entry)
        return Story("absent", 0, 0, None, None, ())

    async def entries(self, *states: State) -> list[Entry]:
        """All entries, or those in the given states."""
        return await self.running.runtime.store.operator.entries(states=states)

    async def rest(self) -> None:
        """Run until nothing is received, running or waiting, and no `reconcile` has anything new to say.

        Raises:
            ConsumerError: it takes longer than `PATIENCE`.
        """
        runtime = self.running.runtime
        try:
            async with asyncio.timeout(PATIENCE):
                before: list[tuple[bytes, int, int]] = []
                while True:
                    # In a thread: waiting for a group's transaction on the loop would stop the group itself.
                    await asyncio.to_thread(self._hasten)
                    runtime.look_for_due()
                    await asyncio.sleep(0.005)
                    entries = await self.entries()
                    moving = any(entry.state in _MOVING for entry in entries) or runtime.slots.running
                    if moving or await runtime.store.operator.outgoing(parked=False, limit=1):
                        continue
                    await runtime.sweep.once()
                    after = [
                        (entry.identity, int(entry.state), entry.token) for entry in await self.entries()
                    ]
                    if after == before:
                        return
                    before = after
        except TimeoutError:
            raise ConsumerError(f"Harness: not at rest within {PATIENCE:g} s; does a handler hang?") from None

    def _counted(self, handler: Handler) -> Handler:
        @functools.wraps(handler.function)
        async def counted(*args: Any, **kwargs: Any) -> Any:
            task = asyncio.current_task()
            running = self.running.runtime.parts.running.get(task) if task is not None else None
            if running is not None:
                envelope = running.work.envelope
                self._starts[handler.name, envelope.tenant, envelope.key] += 1
            return await handler.function(*args, **kwargs)

        return replace(handler, function=counted)

    def _hasten(self) -> None:
        with closing(sqlite3.connect(self._file, timeout=5)) as connection, connection:
            connection.execute("update consumer_inbox set due_at = 0 where due_at > 0")
            connection.execute("update consumer_outbox set due_at = 0 where due_at > 0")

    def _story_of(self, entry: Entry) -> Story:
        return Story(
            entry.state.word,
            self._starts[entry.handler, entry.tenant, entry.key] if entry.keyed else 0,
            entry.attempts,
            None if entry.result is None else msgspec.json.decode(entry.result),
            entry.reason,
            entry.story,
        )

    async def _newest_dead(self, handler: Handler) -> Story:
        dead = [e for e in await self.entries(State.DEAD) if e.handler == handler.name and not e.keyed]
        if not dead:
            return Story("absent", 0, 0, None, None, ())
        return self._story_of(max(dead, key=lambda entry: entry.created_at))


class _Recorder:
    """A sink that remembers what was published, and delivers it to the app's own handlers."""

    def __init__(self, store: Store, router: Router, published: list[Outgoing]) -> None:
        self._store = store
        self._router = router
        self._published = published
        self._seen: set[bytes] = set()

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        """See `ports.transport.Sink`."""
        landings = [landing for _, message in messages for landing in self._landings(message)]
        await self._store.arrivals.land(landings)
        for seq, message in messages:
            if seq is not None and message.id not in self._seen:  # from the outbox, not from the test
                self._seen.add(message.id)
                self._published.append(message)
        return [Published()] * len(messages)

    def _landings(self, message: Outgoing) -> list[Landing]:
        return self._router.landings(message) if message.topic in self._router.by_topic else []


_MOVING = {State.RECEIVED, State.RUNNING, State.WAITING}
