"""What a broker may answer, and what may become of a topic, while a member of a group reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import GroupLoadInProgressError, KafkaError, UnknownError
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v1, OffsetFetchResponse_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.record.memory_records import MemoryRecords

from consumer.brokers.kafka import KafkaSource
from consumer.brokers.kafka.committed import committed_offset
from consumer.brokers.kafka.committer import Committer
from consumer.brokers.kafka.connect import close_consumer
from consumer.brokers.kafka.partition import Partition
from consumer.errors import SettingsError
from consumer.ports.transport import Lag
from tests.integration.kafka_tools import (
    admin,
    eventually,
    has_committed,
    member,
    produce,
    producer,
    tp,
)
from tests.services import Kafka

VALUES = [b"%d" % number for number in range(10)]
LOADING, NOT_COORDINATOR, UNKNOWN, GROUP_REFUSED = 14, 16, -1, 30


def source(kafka: Kafka, group: str, **options: Any) -> KafkaSource:
    return KafkaSource(
        kafka.bootstrap, group, **{"session_timeout": 6.0, "rebalance_timeout": 12.0} | options
    )


class Spoiled:
    """Changes the first answers to one kind of request, on their way from the broker."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, kind: type, change: Callable[[Any], Any], times: int
    ) -> None:
        self.left = times
        send = AIOKafkaClient.send

        async def spoil(client: AIOKafkaClient, node: int, request: Any, **options: Any) -> Any:
            answer = await send(client, node, request, **options)
            if isinstance(request, kind) and self.left > 0:
                self.left -= 1
                return change(answer)
            return answer

        monkeypatch.setattr(AIOKafkaClient, "send", spoil)


def of_every_partition(code: int) -> Callable[[Any], Any]:
    """An answer about offsets that has an error for each partition."""

    def change(answer: Any) -> Any:
        topics = [(topic, [(number, -1, "", code) for number, *_ in parts]) for topic, parts in answer.topics]
        return OffsetFetchResponse_v3(0, topics, 0)

    return change


def with_code(code: int) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        answer.error_code = code
        return answer

    return change


# --- offsets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["earliest", "latest"])
@pytest.mark.parametrize("code", [LOADING, NOT_COORDINATOR])
async def test_an_answer_that_is_an_error_is_not_taken_for_no_offset(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, first: str, code: int
):
    """A coordinator that loads, or has just moved, names no partition and one error for all; aiokafka does not look at it."""
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic, acks=lambda _: True):
        await has_committed(kafka.bootstrap, topic, {0: 10})
    await produce(kafka.bootstrap, topic, [b"while nobody was there"])
    spoiled = Spoiled(monkeypatch, OffsetFetchRequest, lambda _: OffsetFetchResponse_v3(0, [], code), 2)
    async with member(source(kafka, topic, first_position=first), topic) as one:
        await eventually(lambda: not spoiled.left, "it was asked")
        await produce(kafka.bootstrap, topic, [b"after"])
        await eventually(lambda: b"after" in one.values, "it goes on")
    assert one.values == [b"while nobody was there", b"after"]
    await has_committed(kafka.bootstrap, topic, {0: 10})


class Coordinator:
    """Gives one answer about offsets."""

    group_id = "shop"

    def __init__(self, answer: Any) -> None:
        self._coordinator = self
        self.answer = answer

    async def ensure_coordinator_known(self) -> None: ...

    async def _send_req(self, _: object) -> Any:
        return self.answer


def about(number: int, offset: int, fault: int = 0) -> list[Any]:
    return [("t", [(number, offset, "", fault)])]


async def test_who_says_nothing_of_a_partition_has_not_said_that_nothing_is_committed():
    for topics, fault, error in (
        ([], LOADING, GroupLoadInProgressError),
        (about(0, -1, UNKNOWN), 0, UnknownError),
        (about(1, 7), 0, KafkaError),
        ([], 0, KafkaError),
    ):
        with pytest.raises(error):
            await committed_offset(Coordinator(OffsetFetchResponse_v3(0, topics, fault)), tp("t"))


async def test_what_is_committed_is_believed():
    assert await committed_offset(Coordinator(OffsetFetchResponse_v3(0, about(0, 7), 0)), tp("t")) == 7
    assert await committed_offset(Coordinator(OffsetFetchResponse_v3(0, about(0, -1), 0)), tp("t")) is None
    assert await committed_offset(Coordinator(OffsetFetchResponse_v1(about(0, 7))), tp("t")) == 7


async def test_a_look_for_offsets_that_failed_is_repeated(kafka: Kafka, monkeypatch: pytest.MonkeyPatch):
    """aiokafka looks once, in a task that ends with an error it does not know; nobody starts it again."""
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    Spoiled(monkeypatch, OffsetFetchRequest, of_every_partition(UNKNOWN), 1)
    async with member(source(kafka, topic), topic) as one:
        await one.has(10)
    assert one.values == VALUES


# --- the group --------------------------------------------------------------------------------------------------------


async def test_a_heartbeat_that_ended_is_noticed(kafka: Kafka, monkeypatch: pytest.MonkeyPatch):
    """Without one the member is put out of its group, and reads on all the same."""
    topic = await kafka.fresh_topic()
    async with member(source(kafka, topic), topic) as one:
        await eventually(lambda: one.source.assigned, "assigned")
        first = one.source._consumer
        Spoiled(monkeypatch, HeartbeatRequest, with_code(UNKNOWN), 1)
        await eventually(lambda: one.source._consumer is not first, "replaced")
        await produce(kafka.bootstrap, topic, VALUES)
        await one.has(10)
        heartbeat: Any = one.source._consumer
        assert not heartbeat._coordinator._heartbeat_task.done()
    assert one.values == VALUES


async def test_a_group_that_cannot_be_joined_is_told_of_and_joined_once_it_can_be(kafka: Kafka, caplog):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    other = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        group_id=topic,
        partition_assignment_strategy=(RangePartitionAssignor,),
        enable_auto_commit=False,
    )
    await other.start()
    async with member(source(kafka, topic), topic) as one:
        await eventually(lambda: one.source.troubles, "it is told of")
        assert not one.source.healthy
        assert topic in one.source.troubles[0]
        await other.stop()
        await one.has(10)
        assert one.source.troubles == []
    assert caplog.text.count("consumer group") == 1


async def test_who_may_not_join_the_group_hears_it(kafka: Kafka, monkeypatch: pytest.MonkeyPatch):
    topic = await kafka.fresh_topic()
    one = source(kafka, topic)
    Spoiled(monkeypatch, FindCoordinatorRequest, with_code(GROUP_REFUSED), 1000)
    await one.start([topic], _nothing)

    async def polled() -> bool:
        return bool(await one.poll(10, 0.2))

    with pytest.raises(SettingsError, match=f"refuses access.*{topic}"):
        await eventually(polled, "a delivery")
    await one.stop()


async def test_who_has_no_partition_lets_others_run(kafka: Kafka):
    """More members than partitions: whoever polls in a loop must not keep the event loop from everybody else."""
    topic = await kafka.fresh_topic()
    both = [source(kafka, topic), source(kafka, topic)]
    for one in both:
        await one.start([topic], _nothing)

    async def settled() -> bool:
        for one in both:
            await one.poll(100, 0.1)
        return sorted(len(one.assigned) for one in both) == [0, 1] and all(one.rebalances for one in both)

    await eventually(settled, "one has the partition, one has none")
    [idle] = [one for one in both if not one.assigned]
    loop, polls = asyncio.get_running_loop(), 0
    began = loop.time()
    while loop.time() - began < 1:
        assert await idle.poll(100, 0.2) == []
        polls += 1
    assert polls <= 6
    for one in both:
        await one.stop()


async def test_a_failing_callback_does_not_keep_what_was_acknowledged_from_the_commit(kafka: Kafka):
    topic = await kafka.fresh_topic(2)
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic, commit_interval=3600), topic) as first:
        await first.has(10)
        for delivery in first.came[:4]:
            first.source.ack(delivery)

        async def fail() -> None:
            raise RuntimeError("a bug in the worker")

        first.on_revoked = fail
        async with member(source(kafka, topic), topic) as second:
            await eventually(
                lambda: len(first.source.assigned) == 1 == len(second.source.assigned), "one each"
            )
            await eventually(lambda: len(first.came) + len(second.came) == 10 + 6, "the rest, once")


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_batch_that_is_cut_off_is_not_skipped(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, partitions: int
):
    """As protocols before KIP-74 do where a fetch is full: aiokafka raises once and moves its position one message on."""
    cut = True

    def records(data: bytes) -> Any:
        return MemoryRecords(data[:40] if cut and data else data)

    topic = await kafka.fresh_topic(partitions)
    await produce(kafka.bootstrap, topic, VALUES)
    monkeypatch.setattr(fetcher, "MemoryRecords", records)
    async with member(source(kafka, topic), topic) as one:
        await eventually(lambda: one.source.troubles, "it is told of")
        assert not one.source.healthy
        assert one.values == []
        cut = False
        await one.has(10)
        assert one.source.troubles == []
    assert one.values == VALUES


async def test_what_waits_behind_an_open_transaction_is_behind(kafka: Kafka):
    """A transaction that nobody ends holds up its partition for every reader."""
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, [b"before"])
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(1)
        async with producer(kafka.bootstrap, transactional_id=topic) as sender:
            await sender.begin_transaction()
            await sender.send_and_wait(topic, b"within", partition=0)
            await produce(kafka.bootstrap, topic, [b"behind"])
            found: list[Lag] = []

            async def seen() -> bool:
                found[:] = await one.source.lag()
                return [lag.messages for lag in found] == [2]

            await eventually(seen, "two messages wait")
            assert one.values == [b"before"]
            await sender.commit_transaction()
        await one.has(3)


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_a_topic_that_is_deleted_is_told_of(kafka: Kafka):
    gone, stays = await kafka.fresh_topic(), await kafka.fresh_topic()
    await produce(kafka.bootstrap, gone, VALUES)
    async with member(source(kafka, gone), gone, stays, acks=lambda _: True) as one:
        await one.has(10)
        async with admin(kafka.bootstrap) as other:
            await other.delete_topics([gone])
        await eventually(lambda: one.source.troubles, "it is told of")
        assert gone in one.source.troubles[0]
        await produce(kafka.bootstrap, stays, [b"the other"])
        await eventually(lambda: b"the other" in one.values, "the other topic")


async def made_anew(kafka: Kafka, topic: str) -> None:
    """Create it again, and wait for the new one: a moment after the old one's end the broker still takes records for it."""
    await kafka.create_topics({topic: 1})
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as asking:

        async def empty() -> bool:
            return await asking.end_offsets([tp(topic)]) == {tp(topic): 0}

        await eventually(empty, "the new one is there")


async def test_a_topic_made_anew_is_read_from_its_beginning(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(10)
        async with admin(kafka.bootstrap) as other:
            await other.delete_topics([topic])
            await eventually(lambda: not one.source.assigned, "given up")
            await made_anew(kafka, topic)
        await produce(kafka.bootstrap, topic, [b"new"] * 20)
        await eventually(lambda: one.values.count(b"new") == 20, "all of the new one", 30)
        await has_committed(kafka.bootstrap, topic, {0: 20})


@pytest.mark.parametrize("pause", [0.0, 0.3])
async def test_a_topic_made_anew_at_once_is_read_from_its_beginning(kafka: Kafka, pause: float):
    """What was acknowledged of the old one must not be committed for the new one: it would leave out as many messages."""
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    filled = asyncio.Event()

    async def finish_what_runs() -> (
        None
    ):  # until the new one is there: the commit that follows would be for that one
        await filled.wait()

    async with member(source(kafka, topic, commit_interval=3600), topic) as one:
        await one.has(10)
        for delivery in one.came:
            one.source.ack(delivery)
        one.on_revoked = finish_what_runs
        async with admin(kafka.bootstrap) as other:
            await other.delete_topics([topic])
            await asyncio.sleep(pause)
            await made_anew(kafka, topic)
        await produce(kafka.bootstrap, topic, [b"new"] * 20)
        filled.set()
        await one.has(11)
        assert one.offsets()[10] == 0, "the first of the new one"
        await eventually(lambda: one.values.count(b"new") == 20, "all of the new one", 30)


async def test_a_commit_for_a_deleted_topic_is_broken_off_and_not_waited_for():
    partition, asked, ended = Partition(tp("t"), 1), asyncio.Event(), asyncio.Event()

    async def commit(_: object) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one = Committer(commit, lambda: [partition], interval=0.001, timeout=30, committed=lambda: None)
    running = asyncio.create_task(one.run())
    partition.watermark.delivered(0)
    partition.watermark.acked(0)
    one.moved()
    await asked.wait()
    partition.live = False
    settling = asyncio.create_task(one.settle(60))
    await asyncio.wait({settling}, timeout=2)
    assert settling.done()
    assert ended.is_set()
    running.cancel()


class Torn:
    """A consumer whose end is torn by a fetch that it has cancelled, as when the broker has just gone away."""

    def __init__(self) -> None:
        self._client = self
        self.closed = False

    async def stop(self) -> None:
        raise asyncio.CancelledError

    async def close(self) -> None:
        self.closed = True


async def test_a_consumer_whose_end_is_torn_leaves_no_connection_behind():
    consumer = Torn()
    assert not await close_consumer(consumer, 5)
    assert consumer.closed


async def _nothing() -> None: ...
