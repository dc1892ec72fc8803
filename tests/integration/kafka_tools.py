"""What the Kafka tests share: members of a group that poll, and looks at the broker that do not go through our code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka import KafkaSource
from consumer.message import Delivery


async def eventually(condition: Callable[[], object], what: str, seconds: float = 25) -> None:
    """Wait until `condition` holds (it may be a coroutine function)."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.02)


class Member:
    """A member of a consumer group: polls all the time and keeps what came."""

    def __init__(self, source: KafkaSource, *, acks: Callable[[Delivery], bool] = lambda _: False) -> None:
        self.source = source
        self.acks = acks
        self.came: list[Delivery] = []
        self.revocations = 0
        self.on_revoked: Callable[[], Awaitable[None]] | None = None
        self._polling: asyncio.Task[None] | None = None

    async def start(self, *topics: str) -> None:
        await self.source.start(topics, self._revoked)
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
        await self.source.stop()

    async def _poll(self) -> None:
        while True:
            for delivery in await self.source.poll(100, 0.2):
                self.came.append(delivery)
                if self.acks(delivery):
                    self.source.ack(delivery)

    async def _revoked(self) -> None:
        self.revocations += 1
        if self.on_revoked is not None:
            await self.on_revoked()

    @property
    def positions(self) -> list[str]:
        return [delivery.message.position or "" for delivery in self.came]

    @property
    def values(self) -> list[bytes | None]:
        return [delivery.message.value for delivery in self.came]

    def offsets(self, partition: int = 0) -> list[int]:
        places = [position.rsplit("/", 2) for position in self.positions]
        return [int(offset) for _, number, offset in places if int(number) == partition]

    async def has(self, count: int) -> None:
        await eventually(lambda: len(self.came) >= count, f"{count} deliveries, {len(self.came)} came")


@contextlib.asynccontextmanager
async def member(
    source: KafkaSource, *topics: str, acks: Callable[[Delivery], bool] = lambda _: False
) -> AsyncIterator[Member]:
    one = Member(source, acks=acks)
    await one.start(*topics)
    try:
        yield one
    finally:
        await one.stop()


@contextlib.asynccontextmanager
async def producer(bootstrap: str, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    one = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


async def produce(bootstrap: str, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
    async with producer(bootstrap, max_request_size=2**24) as one:
        for value in values:
            await one.send(topic, value, key=b"k", partition=partition)
        await one.flush()


async def produce_bad_header(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    """Append one batch to partition 0 in which the record `bad` has a header whose name is not UTF-8."""
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**16)
    for place, value in enumerate(values):
        name = "PLACE-OF-BAD-BYTES" if value == b"bad" else "name"
        batch.append(place, timestamp=1_700_000_000_000, key=None, value=value, headers=[(name, b"")])
    raw = bytearray(bytes(batch.build()).replace(b"PLACE-OF-BAD-BYTES", b"\xff" * 18))
    raw[17:21] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=5000, topics=[(topic, [(0, bytes(raw))])]
        )
        response = await client.send(client.cluster.leader_for_partition(tp(topic)), request)
        assert response.topics[0][1][0][1] == 0, response
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    one = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await one.start()
    try:
        yield one
    finally:
        await one.close()


async def committed(bootstrap: str, group: str) -> dict[int, int]:
    """The broker's committed offsets of this group, by number of partition (for tests of one topic)."""
    async with admin(bootstrap) as one:
        offsets = await one.list_consumer_group_offsets(group)
    return {tp.partition: found.offset for tp, found in offsets.items()}


async def has_committed(bootstrap: str, group: str, expected: dict[int, int]) -> None:
    last: dict[int, int] = {}

    async def holds() -> bool:
        nonlocal last
        try:
            last = await committed(bootstrap, group)
        except KafkaError as error:
            if not error.retriable:
                raise
            return False  # the group's coordinator is still on its way
        return last == expected

    try:
        await eventually(holds, f"committed offsets {expected}")
    except AssertionError as error:
        raise AssertionError(f"{error}; they are {last}") from None


def tp(topic: str, partition: int = 0) -> TopicPartition:
    return TopicPartition(topic, partition)
