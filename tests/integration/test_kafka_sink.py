from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from consumer.brokers.kafka import (
    KafkaSink,
    KafkaSource,
    TopicFacts,
    missing_topics,
    topic_facts,
    topic_retention,
)
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Outgoing
from consumer.ports.transport import Published
from tests.integration.kafka_tools import admin, eventually, member, producer
from tests.services import Kafka
from tests.services.base import free_port

OK = Published()


def outgoing(number: int, topic: str, key: str | None = None, value: bytes = b"v", headers=()) -> Outgoing:
    return Outgoing(
        id=number.to_bytes(16, "big"), topic=topic, value=value, ordering_key=key, headers=headers
    )


async def read(kafka: Kafka, topic: str, count: int):
    async with member(KafkaSource(kafka.bootstrap, f"read-{topic}-{time.monotonic_ns()}"), topic) as one:
        await one.has(count)
    return [delivery.message for delivery in one.came]


@pytest.fixture
async def sink(kafka: Kafka):
    one = KafkaSink(kafka.bootstrap, topic_wait=0.5)
    yield one
    await one.stop()


# --- what is published ------------------------------------------------------------------------------------------------


async def test_a_record_carries_key_headers_and_id(kafka: Kafka, sink: KafkaSink):
    topic = await kafka.fresh_topic()
    mine = (("a", b"1"), ("message-id", b"forged"), ("a", b"2"))
    messages = [(7, outgoing(1, topic, "köln", b"one", mine)), (None, outgoing(2, topic, value=b"two"))]
    assert await sink.publish(messages) == [OK, OK]
    first, second = await read(kafka, topic, 2)
    assert (first.value, first.record_key, first.ordering_key) == (b"one", "köln".encode(), "köln")
    assert first.headers == (
        ("a", b"1"),
        ("a", b"2"),
        ("message-id", b"0" * 31 + b"1"),
        ("ordering-key", "köln".encode()),
        ("message-sequence", b"7"),
    )
    assert (second.value, second.record_key) == (b"two", None)
    assert second.headers == (("message-id", b"0" * 31 + b"2"),)


async def test_order_is_kept_within_an_ordering_key(kafka: Kafka, sink: KafkaSink):
    topic = await kafka.fresh_topic(3)
    messages = [(number, outgoing(number, topic, f"k{number % 7}", b"%d" % number)) for number in range(2000)]
    assert await sink.publish(messages[:1500]) == [OK] * 1500
    assert await sink.publish(messages[1500:]) == [OK] * 500
    read_back = await read(kafka, topic, 2000)
    for key in {message.ordering_key for message in read_back}:
        numbers = [int(message.value or b"") for message in read_back if message.ordering_key == key]
        assert numbers == sorted(numbers)
        assert len(numbers) in {285, 286}


async def test_nothing_is_published_for_nothing(kafka: Kafka, sink: KafkaSink):
    assert await sink.publish([]) == []


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_what_is_too_large_is_refused_and_holds_back_its_order_only(kafka: Kafka, sink: KafkaSink):
    topic = await kafka.fresh_topic(max_message_bytes="2000")
    messages = [
        (1, outgoing(1, topic, "a", b"a1")),
        (2, outgoing(2, topic, "a", b"x" * 3000)),
        (3, outgoing(3, topic, "b", b"b1")),
        (4, outgoing(4, topic, "a", b"a3")),
        (5, outgoing(5, topic, None, b"x" * 3000)),
        (6, outgoing(6, topic, None, b"none")),
    ]
    answers = await sink.publish(messages)
    refused = [answer.refused for answer in answers]
    assert refused[0] is refused[2] is refused[5] is None
    assert "too large" in (refused[1] or "")
    assert refused[3] == "held back"
    assert "too large" in (refused[4] or "")
    assert await sink.publish(messages[3:4]) == [OK]  # the next call knows nothing of this one
    assert [message.value for message in await read(kafka, topic, 4)] == [b"a1", b"b1", b"none", b"a3"]


async def test_a_limit_lowered_meanwhile_refuses_only_what_is_too_large(kafka: Kafka, sink: KafkaSink):
    """The broker refuses whole batches, and after that whatever follows from the same producer."""
    topic = await kafka.fresh_topic()
    assert await sink.publish([(0, outgoing(0, topic, "a", b"known"))]) == [OK]
    await set_config(kafka, topic, "max.message.bytes", "2000")
    messages = [
        (1, outgoing(1, topic, "a", b"a1")),
        (2, outgoing(2, topic, "b", b"x" * 3000)),
        (3, outgoing(3, topic, "b", b"b2")),
        (4, outgoing(4, topic, "a", b"a2")),
    ]

    accepted = await lowered(kafka, topic)
    answers = await sink.publish(messages)
    assert answers[0] == answers[3] == OK
    assert "too large" in (answers[1].refused or "")
    assert answers[2].refused == "held back"
    more = [(number, outgoing(number, topic, "a", b"%d" % number)) for number in range(5, 8)]
    assert await sink.publish(more) == [OK] * 3
    values = [message.value for message in await read(kafka, topic, 6 + accepted)]
    del values[1 : 1 + accepted]
    assert values == [b"known", b"a1", b"a2", b"5", b"6", b"7"]


async def lowered(kafka: Kafka, topic: str) -> int:
    """Wait until the broker takes no 3,000 bytes for this topic any more; return how many records it took till then.

    How a topic is configured it tells a moment before it acts by it.
    """
    taken = 0

    async def refused() -> bool:
        nonlocal taken
        async with producer(kafka.bootstrap) as one:
            try:
                await one.send_and_wait(topic, b"x" * 3000)
            except MessageSizeTooLargeError:
                return True
        taken += 1
        return False

    await eventually(refused, "the new limit")
    return taken


async def test_a_topic_that_does_not_exist_is_refused_by_name_and_found_once_it_is_there(
    kafka: Kafka, sink: KafkaSink
):
    there = await kafka.fresh_topic()
    missing = f"{there}-later"
    messages = [(1, outgoing(1, missing, "a")), (2, outgoing(2, there, "a")), (3, outgoing(3, "not valid!"))]
    began = time.monotonic()
    answers = await sink.publish(messages)
    assert time.monotonic() - began < 20
    assert [answer.refused for answer in answers] == ["topic does not exist", None, "not a valid topic name"]
    await kafka.create_topics({missing: 1})
    assert await sink.publish(messages[:1]) == [OK]


@pytest.mark.parametrize(
    "bad",
    [
        Outgoing(id=b"0" * 16, topic="", value=b"v", ordering_key="\ud800"),
        Outgoing(id=b"0" * 16, topic="", value=b"v", headers=(("\ud800", b""),)),
        Outgoing(id=b"0" * 16, topic="", value=b"v", headers=(("name", "text"),)),  # type: ignore[arg-type]
    ],
)
async def test_what_cannot_be_encoded_is_refused(kafka: Kafka, sink: KafkaSink, bad: Outgoing):
    topic = await kafka.fresh_topic()
    wrong = Outgoing(bad.id, topic, bad.value, bad.headers, bad.ordering_key)
    answers = await sink.publish([(1, outgoing(1, topic)), (2, wrong), (3, outgoing(3, topic))])
    assert answers[0] == answers[2] == OK
    assert (answers[1].refused or "").startswith("cannot be encoded")


# --- a broker that is away --------------------------------------------------------------------------------------------


async def test_nobody_there():
    address = f"127.0.0.1:{free_port()}"
    sink = KafkaSink(address)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=address):
        await sink.publish([(1, outgoing(1, "topic"))])
    assert time.monotonic() - began < 20
    await sink.stop()


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_a_call_ends_at_its_deadline_and_the_next_one_after_the_outage_succeeds(kafka: Kafka):
    topic = await kafka.fresh_topic()
    sink = KafkaSink(kafka.bootstrap, timeout=5)
    assert await sink.publish([(1, outgoing(1, topic, "a", b"1"))]) == [OK]
    before = set(asyncio.all_tasks())
    kafka.pause()  # it neither answers nor hangs up: the worst case
    try:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await sink.publish([(2, outgoing(2, topic, "a", b"2"))])
        assert time.monotonic() - began < 20
    finally:
        kafka.resume()
    await eventually(
        lambda: not {task for task in asyncio.all_tasks() - before if not task.done()}, "nothing left"
    )

    async def goes() -> bool:
        try:
            return await sink.publish([(2, outgoing(2, topic, "a", b"2"))]) == [OK]
        except BrokerUnavailable:
            return False

    await eventually(goes, "it is published")
    await sink.stop()
    values = [message.value for message in await read(kafka, topic, 2)]
    assert values[0] == b"1"
    assert set(values[1:]) == {b"2"}


# --- topics -----------------------------------------------------------------------------------------------------------


async def test_topics_are_described(kafka: Kafka):
    plain = await kafka.fresh_topic(retention_ms="3600000")
    stamped = await kafka.fresh_topic(
        retention_ms="-1", message_timestamp_type="LogAppendTime", max_message_bytes="9000"
    )
    compacted = await kafka.fresh_topic(cleanup_policy="compact", retention_ms="1000")
    both = await kafka.fresh_topic(cleanup_policy="compact,delete", retention_ms="1000")
    assert await topic_retention(kafka.bootstrap, [plain, stamped, compacted, both]) == {
        plain: 3600.0,
        stamped: None,
        compacted: None,
        both: 1.0,
    }
    assert (await topic_facts(kafka.bootstrap, [stamped]))[stamped] == TopicFacts(
        None, append_time=True, longest=9000
    )
    assert await missing_topics(kafka.bootstrap, ["no-b", plain, "no-a"]) == ["no-b", "no-a"]
    with pytest.raises(SettingsError, match="topic no-a does not exist"):
        await topic_retention(kafka.bootstrap, [plain, "no-a"])
    assert await missing_topics(kafka.bootstrap, []) == []


async def test_looking_creates_nothing(kafka: Kafka):
    await missing_topics(kafka.bootstrap, ["never-made"])
    async with admin(kafka.bootstrap) as one:
        assert "never-made" not in await one.list_topics()


@pytest.mark.parametrize("ask", [missing_topics, topic_retention])
async def test_nobody_there_to_ask(ask):
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=address):
        await ask(address, ["topic"])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("ask", [missing_topics, topic_retention])
async def test_somebody_there_who_does_not_answer(ask):
    async def listen(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}"):
            await ask(f"127.0.0.1:{port}", ["topic"])
        assert time.monotonic() - began < 20


async def set_config(kafka: Kafka, topic: str, name: str, value: str) -> None:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    async with admin(kafka.bootstrap) as one:
        await one.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])
