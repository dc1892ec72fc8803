"""Relays that share one outbox, on real Kafka and Postgres: order of first publications, completeness, shares, poison."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from consumer.brokers.kafka.sink import KafkaSink
from consumer.message import Outgoing
from consumer.path.parts import Parts
from consumer.ports.store import Store
from consumer.ports.tracing import Untraced
from consumer.stores import open_store
from consumer.stores.postgres.writes import SHARDS, send
from consumer.worker.relay import Relay
from tests.acceptance.shop import read_all, until
from tests.services import Kafka

KEYS = 24
TTL = 60.0


class Running:
    """A relay at work, with a handle and a worker of its own, as a process has them."""

    def __init__(self, store: Store, worker: int, bootstrap: str) -> None:
        self.store, self.worker = store, worker
        self.sink = KafkaSink(bootstrap, timeout=5, topic_wait=0.2)
        parts = cast(
            "Parts", SimpleNamespace(worker=worker, tracing=Untraced())
        )  # all that a relay asks of them
        self.relay = Relay(parts, store.outbox, self.sink)
        self.task = asyncio.get_running_loop().create_task(self.relay.run())

    async def stop(self) -> None:
        """An orderly end."""
        self.relay.stop()
        await self.task
        await self._close()

    async def vanish(self) -> None:
        """It ends in the middle of whatever it does; others close its worker, as after a lapse."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        await self.sink.stop()
        await self.store.workers.close(self.worker)
        await self.store.close()


class Outboxes:
    """One outbox, those that fill it and those that empty it.

    Args:
        url: the database.
        kafka: where it goes.
        topic: of every message.
    """

    def __init__(self, url: str, kafka: Kafka, topic: str) -> None:
        self.url, self.kafka, self.topic = url, kafka, topic
        self.running: list[Running] = []
        self.committed: dict[str, list[bytes]] = {}

    async def start(self) -> Running:
        store = open_store(self.url, "shop")
        await store.open()
        worker = await store.workers.open(TTL, "a relay of this test")
        made = Running(store, worker, self.kafka.bootstrap)
        self.running.append(made)
        return made

    def message(self, key: str, value: bytes) -> Outgoing:
        return Outgoing(uuid.uuid4().bytes, self.topic, value, (), key)

    async def fill(
        self, connection: asyncpg.Connection[Any], key: str, count: int, pause: float = 0.0
    ) -> None:
        """Commit messages of one key, each after the commit of the one before has returned."""
        for number in range(count):
            value = f"{key}:{number}".encode()
            async with connection.transaction():
                await send(cast("Any", connection), "shop", [self.message(key, value)])
            self.committed.setdefault(key, []).append(value)
            await asyncio.sleep(pause)  # the writer's own pace

    async def unsent(self) -> int:
        async with connected(self.url) as connection:
            return int(await connection.fetchval("select count(*) from consumer_outbox where parked is null"))

    async def empty(self, seconds: float = 60) -> None:
        async def nothing_left() -> bool:
            return await self.unsent() == 0

        await until(nothing_left, seconds, "an empty outbox")

    async def published(self) -> dict[str, list[tuple[int, bytes]]]:
        """By ordering key: (message-sequence, value), in the topic's order."""
        found: dict[str, list[tuple[int, bytes]]] = {}
        for record in await read_all(self.kafka.bootstrap, self.topic):
            headers = dict(record.headers)
            key = headers["ordering-key"].decode()
            found.setdefault(key, []).append((int(headers["message-sequence"]), record.value))
        return found


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def outboxes(kafka: Kafka, postgres_url: str) -> AsyncIterator[Outboxes]:
    store = open_store(postgres_url, "shop")
    await store.migrate()
    await store.close()
    made = Outboxes(postgres_url, kafka, await kafka.fresh_topic(partitions=6))
    yield made
    for each in made.running:
        if not each.task.done():
            await each.vanish()


def first_publications(rows: list[tuple[int, bytes]]) -> list[bytes]:
    return [value for _, value in dict.fromkeys(rows)]


def without_regressions(rows: list[tuple[int, bytes]]) -> list[bytes]:
    """What a consumer keeps that drops every record whose sequence is not above the highest it has seen."""
    kept, last = [], -1
    for sequence, value in rows:
        if sequence > last:
            kept.append(value)
            last = sequence
    return kept


@pytest.mark.timeout(180)
async def test_order_and_completeness_while_relays_come_and_go(outboxes: Outboxes, kafka: Kafka) -> None:
    """Two relays, the broker away and back, one relay gone in the middle and another one in its place.

    Mutants: a shard has two owners; shards are not ordered by sequence; what failed once is skipped.
    """
    await outboxes.start()
    second = await outboxes.start()
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(outboxes.url)) for _ in range(6)]

        async def writer(place: int) -> None:
            for key in range(place, KEYS, len(connections)):
                await outboxes.fill(connections[place], f"k-{key}", 60, pause=0.01)

        writing = asyncio.gather(*(writer(place) for place in range(len(connections))))
        await asyncio.sleep(1)  # some are published before the trouble
        await asyncio.to_thread(kafka.stop)
        await second.vanish()
        await asyncio.to_thread(kafka.start)
        await outboxes.start()
        await writing
    await outboxes.empty()
    published = await outboxes.published()
    assert published.keys() == outboxes.committed.keys()
    for key, committed in outboxes.committed.items():
        assert first_publications(published[key]) == committed
        assert without_regressions(published[key]) == committed


@pytest.mark.timeout(120)
async def test_a_late_commit_is_published(outboxes: Outboxes) -> None:
    """Its number is lower than that of messages long published: the outbox is row state, not a cursor."""
    await outboxes.start()
    await outboxes.start()
    async with connected(outboxes.url) as late, connected(outboxes.url) as other:
        transaction = late.transaction()
        await transaction.start()
        await send(cast("Any", late), "shop", [outboxes.message(f"late-{n}", b"late") for n in range(20)])
        await outboxes.fill(other, "soon", 30)
        await outboxes.empty()
        assert (await outboxes.published()).keys() == {"soon"}
        await transaction.commit()
    await outboxes.empty(25)
    published = await outboxes.published()
    assert {f"late-{n}" for n in range(20)} == published.keys() - {"soon"}
    assert max(s for s, _ in published["late-0"]) < min(s for s, _ in published["soon"])


@pytest.mark.timeout(60)
async def test_a_poison_message_parks_its_key_only(outboxes: Outboxes) -> None:
    """Mutant: what the sink refuses holds back the batch."""
    relay = (await outboxes.start()).relay
    async with connected(outboxes.url) as connection:
        await outboxes.fill(connection, "poisoned", 2)
        poison = outboxes.message("poisoned", b"x" * 3_000_000)
        async with connection.transaction():
            await send(cast("Any", connection), "shop", [poison])
        await outboxes.fill(connection, "poisoned", 3)
        for key in range(10):
            await outboxes.fill(connection, f"k-{key}", 5)

        async def only_the_poisoned_are_left() -> bool:
            left = await connection.fetch("select ordering_key from consumer_outbox")
            return relay.parked == 1 and [row[0] for row in left] == [b"poisoned"] * 4

        await until(only_the_poisoned_are_left, 25, "all other keys published")
    published = await outboxes.published()
    assert first_publications(published["poisoned"]) == [b"poisoned:0", b"poisoned:1"]
    assert all(first_publications(published[f"k-{k}"]) == outboxes.committed[f"k-{k}"] for k in range(10))


async def _shares(stores: list[tuple[Store, int]]) -> list[int]:
    """How many shards each has, after everybody has asked often enough; asked with messages in every shard."""
    held: list[set[int]] = []
    for _ in range(len(stores) + 1):
        held = [{p.seq for p in await store.outbox.take(worker, 1000)} for store, worker in stores]
    assert sum(map(len, held)) == len(set().union(*held)), "nothing is held by two"
    return [len(each) for each in held]


async def test_shards_are_shared_out_evenly(postgres_url: str) -> None:
    """About shards / live relays each; a relay that is gone leaves its share to the others. Mutant: the first has all."""
    stores: list[tuple[Store, int]] = []
    try:
        for _ in range(3):
            store = open_store(postgres_url, "shop")
            if not stores:
                await store.migrate()
            await store.open()
            stores.append((store, await store.workers.open(TTL, "a relay of this test")))
        async with connected(postgres_url) as connection:
            await connection.execute(_ONE_A_SHARD, SHARDS - 1)
        assert await _shares(stores[:1]) == [8]
        assert await _shares(stores[:2]) == [4, 4]
        assert sorted(await _shares(stores)) == [2, 3, 3]
        await stores[0][0].workers.close(stores[0][1])
        assert await _shares(stores[1:]) == [4, 4]
    finally:
        for store, _ in stores:
            await store.close()


_ONE_A_SHARD = """
insert into consumer_outbox (app, id, shard, topic, headers, value)
select 'shop', gen_random_uuid(), n, 'settled', '\\x90'::bytea, ''::bytea from generate_series(0, $1::int) n
"""
