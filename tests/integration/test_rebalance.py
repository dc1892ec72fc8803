"""Members that come and go on a real broker, through our own worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Self

import asyncpg
import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from msgspec import Struct

from consumer import App, Key, Settings, Transactional, Tx
from consumer.brokers.kafka import KafkaSource
from consumer.observe.observed import Observed
from consumer.stores import open_store
from consumer.worker.connect import connect
from tests.integration.kafka_tools import eventually, has_committed, member, produce
from tests.services import Kafka


def static(kafka: Kafka, group: str, name: str) -> KafkaSource:
    return KafkaSource(kafka.bootstrap, group, session_timeout=10.0, rebalance_timeout=12.0, instance=name)


async def test_a_restart_of_a_static_member_moves_no_partition(kafka: Kafka) -> None:
    topic = await kafka.fresh_topic(4)
    async with member(static(kafka, topic, "b-2"), topic, acks=lambda _: True) as stays:
        async with member(static(kafka, topic, "b-1"), topic, acks=lambda _: True) as first:
            await eventually(
                lambda: len(first.source.assigned) == 2 == len(stays.source.assigned), "two each"
            )
            before, rebalances = set(first.source.assigned), stays.source.rebalances
            kept, revocations = set(stays.source.assigned), stays.revocations
        async with member(static(kafka, topic, "b-1"), topic, acks=lambda _: True) as again:
            await eventually(lambda: again.source.assigned, "it has partitions again")
            for number in range(4):
                await produce(kafka.bootstrap, topic, [b"x"], number)
            await has_committed(kafka.bootstrap, topic, dict.fromkeys(range(4), 1))
            assert set(again.source.assigned) == before
            assert set(stays.source.assigned) == kept
            assert (stays.source.rebalances, stays.revocations) == (rebalances, revocations)


async def test_what_is_unfinished_at_a_revoke_is_the_next_owner_s(kafka: Kafka) -> None:
    """The acknowledgement that comes after the loss commits nothing; what was acknowledged before is not repeated."""
    topic = await kafka.fresh_topic(1)
    await produce(kafka.bootstrap, topic, [b"%d" % number for number in range(10)])
    async with member(
        KafkaSource(kafka.bootstrap, topic, session_timeout=6.0, rebalance_timeout=12.0), topic
    ) as first:
        await first.has(10)
        for delivery in first.came[:4]:
            first.source.ack(delivery)
        await has_committed(kafka.bootstrap, topic, {0: 4})
        await first.stop()
        for delivery in first.came[4:]:
            assert not first.source.held(delivery)
            first.source.ack(delivery)
    async with member(
        KafkaSource(kafka.bootstrap, topic, session_timeout=6.0, rebalance_timeout=12.0), topic
    ) as second:
        await second.has(6)
        assert second.offsets() == [4, 5, 6, 7, 8, 9]
    await has_committed(kafka.bootstrap, topic, {0: 4})


# ------------------------------------------------------------------------------------- handlers that take their time


class Payment(Struct):
    id: str


class Slow:
    """A worker on a thread and an event loop of its own, so that whoever holds its loop does not hold the test's."""

    def __init__(self, kafka: Kafka, topic: str, store: str, before: Callable[[str], object]) -> None:
        self.app = App("shop")

        @self.app.on(topic, key=Key.field("id"), mode=Transactional())
        async def pay(payment: Payment, tx: Tx) -> None:
            self.started[payment.id] += 1
            if asyncio.iscoroutine(waiting := before(payment.id)):
                await waiting
            await tx.execute("insert into ledger values ($1)", payment.id)

        self.started: Counter[str] = Counter()
        self.source = KafkaSource(
            kafka.bootstrap, topic, session_timeout=6.0, rebalance_timeout=9.0, in_hand_limit=20
        )
        self._settings = Settings(
            store=store, broker=f"kafka://{kafka.bootstrap}", consumer_group=topic, grace=5
        )
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        declared = self.app.handlers.declared
        connections = connect("shop", self._settings, declared)
        connections.source = self.source
        observed = Observed(declared, [], self._settings)
        with observed.served():
            async with self.app.running(
                self._settings, consume=True, observer=observed, connections=connections
            ) as running:
                observed.opened(running.runtime, running.desk)
                await self._stopping.wait()

    async def __aenter__(self) -> Self:
        self._thread.start()
        await eventually(lambda: self.source.assigned or not self._thread.is_alive(), "it has partitions")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, 20)
        self._loop.close()


@contextlib.contextmanager
def fetching(self: SubscriptionState) -> Iterator[None]:
    """`SubscriptionState.fetch_context`, for fetches that are given up too."""
    self._fetch_count += 1
    try:
        yield
    finally:
        self._fetch_count -= 1
        if self._fetch_count == 0:
            self._last_fetch_ended = time.monotonic()


async def ledger(url: str) -> Counter[str]:
    connection = await asyncpg.connect(url)
    try:
        return Counter(row["id"] for row in await connection.fetch("select id from ledger"))
    finally:
        await connection.close()


async def migrated(url: str) -> str:
    store = open_store(url, "shop")
    await store.migrate()
    await store.close()
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table ledger (id text)")  # nothing in it forbids a double
    finally:
        await connection.close()
    return url


def payments(*names: str) -> list[bytes | None]:
    return [json.dumps({"id": name}).encode() for name in names]


@pytest.mark.timeout(120)
async def test_a_held_loop_loses_its_partitions_comes_back_and_nothing_is_doubled(
    kafka: Kafka, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler blocks until the broker has taken its process for dead and the other one has its partition."""
    topic, url = await kafka.fresh_topic(2), await migrated(postgres_url)
    held, go_on = threading.Event(), threading.Event()

    def block(name: str) -> None:
        if name == "held" and not held.is_set():
            held.set()
            assert go_on.wait(60)

    async with Slow(kafka, topic, url, block) as one, Slow(kafka, topic, url, block) as two:
        both = (one, two)
        await eventually(lambda: [len(each.source.assigned) for each in both] == [1, 1], "one each")
        try:
            await produce(kafka.bootstrap, topic, payments("p-0", "held", "p-1"))
            await eventually(held.is_set, "the handler has begun")
            [idle] = [each for each in both if not each.started["held"]]
            await eventually(lambda: len(idle.source.assigned) == 2, "the other one has both partitions")
            await produce(kafka.bootstrap, topic, payments("p-2"), 1)
            await eventually(lambda: idle.started["p-2"], "it goes on meanwhile")
        finally:
            go_on.set()
        await eventually(lambda: [len(each.source.assigned) for each in both] == [1, 1], "it is back")
        await has_committed(kafka.bootstrap, topic, {0: 3, 1: 1})
        assert await ledger(url) == Counter(["p-0", "held", "p-1", "p-2"])
    named = [record.getMessage() for record in caplog.records if record.name == "consumer.loop"]
    assert any("pay (" in text and "holds the event loop" in text for text in named), caplog.text


@pytest.mark.timeout(120)
async def test_a_handler_slower_than_every_interval_does_not_lose_the_group(
    kafka: Kafka, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slower than session and rebalance time-out, on a partition that is full meanwhile, so that nothing is fetched.

    aiokafka never notices that: a fetch that was given up counts as under way for ever. It is mended here, so that the
    time-out between polls counts, as it may in a later version.
    """
    monkeypatch.setattr(SubscriptionState, "fetch_context", fetching)
    topic, url = await kafka.fresh_topic(1), await migrated(postgres_url)
    async with Slow(kafka, topic, url, lambda name: asyncio.sleep(10 if name == "slow" else 0)) as one:
        await produce(kafka.bootstrap, topic, payments("slow", *(f"p-{number}" for number in range(30))))
        await has_committed(kafka.bootstrap, topic, {0: 31})
        assert set((await ledger(url)).values()) == {1}
        assert len(one.started) == 31
        assert one.started["slow"] == 1
        assert one.source.rebalances == 1
