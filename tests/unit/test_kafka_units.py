"""What of the Kafka adapter can be tried without a broker."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest
from aiokafka.errors import ClusterAuthorizationFailedError, CommitFailedError, TopicAuthorizationFailedError
from aiokafka.structs import TopicPartition

from consumer.brokers.address import is_embedded, kafka_bootstrap
from consumer.brokers.kafka import KafkaSink, KafkaSource, sink
from consumer.brokers.kafka.answers import Answers
from consumer.brokers.kafka.calm import Calm
from consumer.brokers.kafka.committer import Committer
from consumer.brokers.kafka.partition import Partition
from consumer.brokers.kafka.reader import Reader
from consumer.errors import SettingsError
from consumer.message import Outgoing
from consumer.ports.transport import HELD_BACK, Published

# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://localhost:9092", "localhost:9092"),
        ("kafka://a:1,b:2, c:65535/", "a:1,b:2,c:65535"),
        ("kafka://[::1]:9092", "[::1]:9092"),
    ],
)
def test_a_kafka_url(url, servers):
    assert kafka_bootstrap(url) == servers


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "expected kafka://"),
        ("kafka://", "'' is not host:port"),
        ("kafka://host", "'host' is not host:port"),
        ("kafka://:9092", "':9092' is not host:port"),
        ("kafka://host:0", "'0' is not a port number"),
        ("kafka://host:65536", "'65536' is not a port number"),
        ("kafka://host:９", "is not a port number"),
        ("kafka://a:1,,b:2", "'' is not host:port"),
        ("kafka://user:pw@host:1", "holds more than host:port"),
        ("kafka://host:1?acks=0", "holds more than host:port"),
        ("kafka://host:1/topic", "holds more than host:port"),
        ("kafka://::1:9092", "needs brackets"),
        ("amqp://host:1", "expected kafka://"),
    ],
)
def test_what_is_not_a_kafka_url(url, says):
    with pytest.raises(SettingsError) as error:
        kafka_bootstrap(url)
    assert says in str(error.value)


def test_embedded():
    assert is_embedded("embedded:")
    assert not is_embedded("kafka://host:1")


def test_settings_of_a_source():
    with pytest.raises(SettingsError, match="first position 'oldest'"):
        KafkaSource("host:1", "group", first_position="oldest")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="in-hand limit 0"):
        KafkaSource("host:1", "group", in_hand_limit=0)


# --- committing -------------------------------------------------------------------------------------------------------


class Broker:
    """Takes commits, slowly or not at all."""

    def __init__(self) -> None:
        self.commits: list[dict[TopicPartition, int]] = []
        self.errors: list[Exception] = []
        self.under_way = 0
        self.most_under_way = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    async def commit(self, offsets) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.asked.set()
        try:
            await self.answers.wait()
            if self.errors:
                raise self.errors.pop(0)
            self.commits.append(dict(offsets))
        finally:
            self.under_way -= 1


def partition(number: int = 0, delivered: int = 10) -> Partition:
    one = Partition(TopicPartition("t", number), 1)
    for offset in range(delivered):
        one.watermark.delivered(offset)
    return one


def committer(broker: Broker, *partitions: Partition) -> Committer:
    return Committer(broker.commit, lambda: partitions, interval=0.001, timeout=30, committed=lambda: None)


async def until(condition, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the code under test has no event for it
            await asyncio.sleep(0.001)


async def test_only_what_has_moved_is_committed_and_never_backwards():
    broker, first, second = Broker(), partition(0), partition(1)
    one = committer(broker, first, second)
    assert await one.settle(1)
    assert broker.commits == []
    first.watermark.acked(0)
    assert await one.settle(1)
    assert await one.settle(1)
    assert broker.commits == [{first.tp: 1}]
    first.watermark.position = 0  # whatever makes it go back
    assert await one.settle(1)
    assert broker.commits == [{first.tp: 1}]


async def test_one_commit_is_in_flight_and_the_next_carries_the_newest():
    broker, one_partition = Broker(), partition()
    one = committer(broker, one_partition)
    running = asyncio.create_task(one.run())
    broker.answers.clear()
    one_partition.watermark.acked(0)
    one.moved()
    await broker.asked.wait()
    for offset in range(1, 5):
        one_partition.watermark.acked(offset)
        one.moved()
    broker.answers.set()
    await until(lambda: len(broker.commits) == 2)
    running.cancel()
    assert broker.commits == [{one_partition.tp: 1}, {one_partition.tp: 5}]
    assert broker.most_under_way == 1


async def test_settle_ends_a_commit_that_does_not_end():
    broker, one_partition = Broker(), partition()
    one = committer(broker, one_partition)
    running = asyncio.create_task(one.run())
    broker.answers.clear()
    one_partition.watermark.acked(0)
    one.moved()
    await broker.asked.wait()
    assert not await one.settle(0.02)
    assert broker.under_way == 0  # nothing of this assignment is sent in the next
    assert broker.most_under_way == 1
    running.cancel()


@pytest.mark.parametrize(
    "error", [CommitFailedError("rebalanced"), asyncio.InvalidStateError("aiokafka's own")]
)
async def test_a_failed_commit_is_tried_again(error, monkeypatch):
    monkeypatch.setattr("consumer.brokers.kafka.committer._AFTER_FAILURE", 0.001)
    broker, one_partition = Broker(), partition()
    broker.errors.append(error)
    one = committer(broker, one_partition)
    running = asyncio.create_task(one.run())
    one_partition.watermark.acked(0)
    one.moved()
    await until(lambda: broker.commits)
    running.cancel()
    assert broker.commits == [{one_partition.tp: 1}]


async def test_what_was_given_up_is_not_committed():
    broker, gone = Broker(), partition()
    gone.watermark.acked(0)
    gone.live = False
    assert await committer(broker, gone).settle(1)
    assert broker.commits == []


# --- answers of a sink ------------------------------------------------------------------------------------------------


def test_a_refusal_holds_back_its_order_and_nothing_else():
    def of(topic, key):
        return (None, Outgoing(id=b"", topic=topic, value=b"", ordering_key=key))

    answers = Answers([of("t", "a"), of("t", "a"), of("u", "a"), of("t", "b"), of("t", None), of("t", None)])
    answers.refuse(0, "reason")
    answers.refuse(4, "other")
    assert [answers.held_back(place) for place in (1, 2, 3, 5)] == [True, False, False, False]
    assert answers.waiting() == [2, 3, 5]
    with pytest.raises(RuntimeError):
        answers.all()
    for place in answers.waiting():
        answers.published(place)
    refused = [answer.refused for answer in answers.all()]
    assert refused == ["reason", HELD_BACK, None, None, "other", None]
    assert answers.all()[2] == Published()


# --- what is refused while others are not -----------------------------------------------------------------------------


class Half:
    """A consumer that may read partition 1, and may not read partition 0 any more."""

    def __init__(self) -> None:
        self.offset = 0

    async def getmany(self, *tps, timeout_ms, max_records):
        if any(tp.partition == 0 for tp in tps):
            raise TopicAuthorizationFailedError("t")
        self.offset += 1
        found = {
            "topic": "t",
            "partition": 1,
            "offset": self.offset,
            "value": b"",
            "key": None,
            "headers": (),
        }
        return {tps[0]: [SimpleNamespace(**found, timestamp=0, timestamp_type=0)]}


async def test_what_is_refused_keeps_nothing_else_from_being_read():
    """Mutant: it is tried again at once."""
    partitions = {one.tp: one for one in (partition(0, 0), partition(1, 0))}
    assignment = SimpleNamespace(partitions=partitions, ready=asyncio.Event())
    assignment.ready.set()
    options = {"first": "earliest", "in_hand_limit": 100, "in_hand_bytes": 1_000_000, "moved": lambda: None}
    reader = Reader("b:1", Half(), assignment, **options)  # type: ignore[arg-type]
    refused, read = 0, []
    for _ in range(10):
        try:
            read += await reader.read(1, time.monotonic())
        except SettingsError as fault:
            assert "b:1 refuses access" in str(fault)  # noqa: PT017 - how often it is raised is counted
            refused += 1
    assert refused == 1
    assert len(read) == 9


async def test_a_producer_that_was_refused_is_not_used_again(monkeypatch):
    """One whose start was refused would take messages and send none. Mutant: it is kept."""
    made = []

    class Refused:
        async def start(self) -> None:
            raise ClusterAuthorizationFailedError("kafka-cluster")

    def new(*_, **__):
        made.append(Refused())
        return made[-1]

    async def nothing(*_) -> None: ...

    monkeypatch.setattr(sink, "new_producer", new)
    monkeypatch.setattr(sink, "close_producer", nothing)
    monkeypatch.setattr(KafkaSink, "_look_at_topics", nothing)
    one = KafkaSink("b:1")
    for _ in range(2):
        with pytest.raises(SettingsError, match="b:1 refuses access"):
            await one.publish([(None, Outgoing(b"i" * 16, "t", b"hello"))])
    assert len(made) == 2


# --- logs -------------------------------------------------------------------------------------------------------------


def record(text: str, *, error: bool = False) -> logging.LogRecord:
    info = (ValueError, ValueError("x"), None) if error else None
    return logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, text, None, info)


def test_a_line_that_repeats_is_written_once_in_a_while_with_their_number():
    now = 0.0
    calm = Calm(30, lambda: now)
    assert calm.filter(record("away"))
    assert not any(calm.filter(record("away")) for _ in range(9))
    assert calm.filter(record("something else"))
    now = 31.0
    late = record("away")
    assert calm.filter(late)
    assert late.getMessage() == "away (and 9 like it before)"
    assert not calm.filter(record("away"))


def test_a_traceback_is_always_written():
    calm = Calm(30, lambda: 0.0)
    assert all(calm.filter(record("unexpected", error=True)) for _ in range(3))


# --- a source that is not started, or stopped -------------------------------------------------------------------------


async def test_whoever_polls_a_source_that_is_not_running_does_not_spin():
    loop, idle = asyncio.get_running_loop(), KafkaSource("127.0.0.1:1", "group")
    began = loop.time()
    assert [await idle.poll(10, 0.05) for _ in range(3)] == [[], [], []]
    assert loop.time() - began >= 0.14
    await idle.stop()  # of what never started: nothing
