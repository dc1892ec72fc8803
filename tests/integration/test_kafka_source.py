from __future__ import annotations

import asyncio
import importlib.util
import time
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin.records_to_delete import RecordsToDelete

from consumer.brokers.kafka import KafkaSource, reader
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Delivery
from tests.integration.kafka_tools import (
    admin,
    committed,
    eventually,
    has_committed,
    member,
    produce,
    produce_bad_header,
    producer,
    tp,
)
from tests.services import Kafka
from tests.services.base import free_port

VALUES = [b"%d" % number for number in range(10)]


def source(kafka: Kafka, group: str, **options) -> KafkaSource:
    return KafkaSource(
        kafka.bootstrap, group, **{"session_timeout": 6.0, "rebalance_timeout": 12.0} | options
    )


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_a_record_arrives_as_it_is(kafka: Kafka):
    topic = await kafka.fresh_topic()
    headers = [("a", b"1"), ("a", b"2"), ("none", None), ("ordering-key", "köln".encode())]
    async with producer(kafka.bootstrap) as sender:
        await sender.send_and_wait(
            topic, b"\xff\x00", key=b"\xfe", headers=headers, timestamp_ms=1_700_000_000_500
        )
        await sender.send_and_wait(topic, None, key=b"gone")
        await sender.send_and_wait(topic, b"", headers=[("ordering-key", b"\xff")])
    async with member(source(kafka, topic), topic) as one:
        await one.has(3)
    first, tombstone, empty = (delivery.message for delivery in one.came)
    assert (first.topic, first.value, first.record_key) == (topic, b"\xff\x00", b"\xfe")
    assert first.headers == (("a", b"1"), ("a", b"2"), ("none", b""), ("ordering-key", "köln".encode()))
    assert (first.ordering_key, first.source, first.position) == ("köln", "kafka", f"{topic}/0/0")
    assert first.timestamp == 1_700_000_000.5
    assert (tombstone.value, tombstone.record_key, tombstone.headers) == (None, b"gone", ())
    assert (empty.value, empty.record_key, empty.ordering_key) == (b"", None, None)


async def test_a_message_larger_than_a_fetch_arrives(kafka: Kafka):
    topic = await kafka.fresh_topic(max_message_bytes=str(5 * 2**20))
    large = b"x" * (3 * 2**20)
    await produce(kafka.bootstrap, topic, [large, b"after"])
    async with member(source(kafka, topic), topic) as one:
        await one.has(2)
    assert one.values == [large, b"after"]


async def test_an_aborted_transaction_is_not_delivered_and_its_hole_does_not_hold_the_commit(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, [b"before"])
    async with producer(kafka.bootstrap, transactional_id=topic) as sender:
        await sender.begin_transaction()
        await sender.send_and_wait(topic, b"aborted", partition=0)
        await sender.abort_transaction()
    await produce(kafka.bootstrap, topic, [b"after"])
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(2)
        last = one.offsets()[-1]
        await has_committed(kafka.bootstrap, topic, {0: last + 1})
    assert one.values == [b"before", b"after"]
    assert last > 1  # there is a hole between them


async def test_partitions_share_each_poll(kafka: Kafka):
    """`getmany` alone brings one partition whole before it turns to the next."""
    topic = await kafka.fresh_topic(3)
    for number in range(3):
        await produce(kafka.bootstrap, topic, VALUES * 90, number)
    one = source(kafka, topic)
    await one.start([topic], _nothing)
    shares: list[list[int]] = []

    async def drained() -> bool:
        numbers = [position(delivery).split("/")[1] for delivery in await one.poll(30, 0.2)]
        shares.append([numbers.count(number) for number in "012"])
        return sum(map(sum, shares)) == 2700

    # So many that none is empty before all have been fetched: aiokafka fetches the first one alone.
    await eventually(drained, "2,700 deliveries")
    await one.stop()
    assert [10, 10, 10] in shares


async def test_a_cancelled_poll_loses_nothing(kafka: Kafka):
    topic = await kafka.fresh_topic(2)
    for number in range(2):
        await produce(kafka.bootstrap, topic, VALUES, number)
    one = source(kafka, topic)
    await one.start([topic], _nothing)
    came: list[str] = []

    async def gather() -> bool:
        poll = asyncio.create_task(one.poll(3, 1.0))
        await asyncio.sleep(0)  # it has begun
        poll.cancel()
        await asyncio.wait({poll})
        if not poll.cancelled():
            came.extend(map(position, poll.result()))
        came.extend(map(position, await one.poll(1, 0.01)))
        return len(came) >= 20

    await eventually(gather, "20 deliveries")
    await one.stop()
    assert sorted(came) == sorted(
        {f"{topic}/{number}/{offset}" for number in range(2) for offset in range(10)}
    )


# --- where it begins --------------------------------------------------------------------------------------------------


async def test_a_new_group_begins_at_the_earliest_and_says_so_to_the_broker(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic) as one:
        await one.has(10)
    assert one.values == VALUES
    assert await committed(kafka.bootstrap, topic) == {0: 0}


async def test_latest_holds_from_the_first_start_not_from_every_start(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, [b"old"])
    async with member(source(kafka, topic, first_position="latest"), topic):
        await has_committed(kafka.bootstrap, topic, {0: 1})
    await produce(kafka.bootstrap, topic, [b"while nobody was there"])
    async with member(source(kafka, topic, first_position="latest"), topic) as one:
        await one.has(1)
    assert one.values == [b"while nobody was there"]


async def test_offsets_that_expired_are_reported_and_reading_goes_on_at_the_earliest(kafka: Kafka, caplog):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(
        source(kafka, topic), topic, acks=lambda delivery: delivery.message.value in {b"0", b"1"}
    ):
        await has_committed(kafka.bootstrap, topic, {0: 2})
    async with admin(kafka.bootstrap) as one:
        await one.delete_records({tp(topic): RecordsToDelete(before_offset=6)})
    async with member(source(kafka, topic), topic, acks=lambda _: True) as again:
        await again.has(4)
        await has_committed(kafka.bootstrap, topic, {0: 10})
    assert again.values == VALUES[6:]
    assert "offsets 2 to 5 are gone (retention): 4 messages were never read; going on at 6" in caplog.text


async def test_a_committed_offset_beyond_the_end_is_reported_and_everything_is_read_again(
    kafka: Kafka, caplog
):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    other = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=topic, enable_auto_commit=False)
    await other.start()
    other.assign([tp(topic)])
    await other.commit({tp(topic): 1000})
    await other.stop()
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await one.has(10)
        await has_committed(kafka.bootstrap, topic, {0: 10})
    assert one.values == VALUES
    assert "offset 1000 lies beyond the end" in caplog.text


# --- how far it commits -----------------------------------------------------------------------------------------------


async def test_the_commit_stands_before_the_lowest_unfinished_delivery(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic) as one:
        await one.has(10)
        for offset in (9, 0, 4, 1, 3, 5, 6, 7, 8):
            one.source.ack(one.came[offset])
        await has_committed(kafka.bootstrap, topic, {0: 2})
        one.source.ack(one.came[2])
        await has_committed(kafka.bootstrap, topic, {0: 10})
        one.source.ack(one.came[0])  # late and again: nothing moves back
        await produce(kafka.bootstrap, topic, [b"more"])
        await one.has(11)
        one.source.ack(one.came[10])
        await has_committed(kafka.bootstrap, topic, {0: 11})


async def test_stop_commits_what_was_acknowledged_and_the_rest_comes_again(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic, commit_interval=3600), topic) as one:
        await has_committed(kafka.bootstrap, topic, {0: 0})  # the only commit of this hour
        await one.has(10)
        for delivery in one.came[:7]:
            one.source.ack(delivery)
    assert await committed(kafka.bootstrap, topic) == {0: 7}
    async with member(source(kafka, topic), topic) as again:
        await again.has(3)
    assert again.values == VALUES[7:]


async def test_the_in_hand_limit_stops_its_own_partition_only(kafka: Kafka):
    topic = await kafka.fresh_topic(2)
    for number in range(2):
        await produce(kafka.bootstrap, topic, VALUES * 5, number)
    moving = f"{topic}/1/"
    one = source(kafka, topic, in_hand_limit=10)
    async with member(one, topic, acks=lambda delivery: position(delivery).startswith(moving)) as busy:
        await eventually(lambda: len(busy.offsets(1)) == 50, "all of the partition that moves")
        await eventually(lambda: len(busy.offsets(0)) >= 10, "the other one's first ten")
        assert busy.offsets(0) == list(range(10))
        for delivery in list(busy.came):
            if not position(delivery).startswith(moving):
                busy.source.ack(delivery)
        await eventually(lambda: len(busy.offsets(0)) == 20, "ten more of the other")
    assert busy.offsets(0) == list(range(20))


# --- two members ------------------------------------------------------------------------------------------------------


async def test_a_rebalance_keeps_progress_and_never_commits_unfinished_work(kafka: Kafka):
    topic = await kafka.fresh_topic(2)
    for number in range(2):
        await produce(kafka.bootstrap, topic, VALUES, number)
    async with member(source(kafka, topic, commit_interval=3600), topic) as first:
        await first.has(20)
        mine = list(first.came)
        by_offset = {delivery.message.position: delivery for delivery in mine}
        for number in range(2):
            for offset in (0, 1, 2, 5):
                first.source.ack(by_offset[f"{topic}/{number}/{offset}"])

        async def finish_one() -> None:  # the worker finishes something while it is asked to
            assert first.source.held(mine[0])
            first.source.ack(by_offset[f"{topic}/0/3"])

        first.on_revoked = finish_one
        async with member(source(kafka, topic), topic) as second:
            await eventually(
                lambda: len(first.source.assigned) == 1 == len(second.source.assigned), "one each"
            )
            assert first.revocations == 1
            assert not any(first.source.held(delivery) for delivery in mine)
            assert await committed(kafka.bootstrap, topic) == {0: 4, 1: 3}
            for delivery in mine:
                first.source.ack(delivery)  # of an assignment that is over
            await eventually(lambda: len(first.came) + len(second.came) == 20 + 6 + 7, "the rest, once")
            assert sorted(first.positions[20:] + second.positions) == sorted(
                [f"{topic}/0/{offset}" for offset in range(4, 10)]
                + [f"{topic}/1/{offset}" for offset in range(3, 10)]
            )
        assert await committed(kafka.bootstrap, topic) == {0: 4, 1: 3}
    assert await committed(kafka.bootstrap, topic) == {0: 4, 1: 3}


async def test_work_that_does_not_end_holds_up_a_rebalance_for_a_bounded_time(kafka: Kafka, caplog):
    topic = await kafka.fresh_topic(2)
    for number in range(2):
        await produce(kafka.bootstrap, topic, VALUES, number)
    async with member(source(kafka, topic, rebalance_timeout=3.0), topic) as first:
        await first.has(20)
        for delivery in first.came:
            if position(delivery).endswith("/0"):
                first.source.ack(delivery)
        await has_committed(kafka.bootstrap, topic, {0: 1, 1: 1})
        never = asyncio.Event()

        async def go_on() -> None:
            await never.wait()

        first.on_revoked = go_on
        async with member(source(kafka, topic), topic) as second:
            await eventually(
                lambda: len(first.source.assigned) == 1 == len(second.source.assigned), "one each"
            )
    assert "work was not finished within 2 s" in caplog.text
    assert await committed(kafka.bootstrap, topic) == {0: 1, 1: 1}


async def test_a_failing_callback_does_not_stop_the_member(kafka: Kafka, caplog):
    topic = await kafka.fresh_topic(2)
    async with member(source(kafka, topic), topic) as first:
        await eventually(lambda: len(first.source.assigned) == 2, "both partitions")

        async def fail() -> None:
            raise RuntimeError("a bug in the worker")

        first.on_revoked = fail
        async with member(source(kafka, topic), topic) as second:
            await eventually(
                lambda: len(first.source.assigned) == 1 == len(second.source.assigned), "one each"
            )
    assert "a bug in the worker" in caplog.text


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_a_record_that_cannot_be_parsed_stops_its_partition_only_and_is_not_skipped(
    kafka: Kafka, monkeypatch, caplog
):
    """Header names must be UTF-8 for aiokafka; here the other path to such records (`test_kafka_headers`) fails too."""

    async def nothing(*_) -> None: ...

    monkeypatch.setattr(reader, "rescue", nothing)
    topic = await kafka.fresh_topic(2)
    await produce(kafka.bootstrap, topic, [b"before"])
    await produce_bad_header(kafka.bootstrap, topic, [b"0", b"1", b"bad", b"3"])
    await produce(kafka.bootstrap, topic, VALUES, 1)
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await eventually(lambda: one.source.troubles, "it is reported")
        assert not one.source.healthy
        await eventually(lambda: len(one.offsets(1)) == 10, "the other partition")
        await has_committed(kafka.bootstrap, topic, {0: 3, 1: 10})
        assert sorted(one.offsets(0)) == [0, 1, 2]
        async with admin(kafka.bootstrap) as other:  # an operator gives it up
            await other.delete_records({tp(topic): RecordsToDelete(before_offset=5)})
        await produce(kafka.bootstrap, topic, [b"after"])
        await eventually(lambda: b"after" in one.values and one.source.healthy, "it goes on")
    assert f"{topic}/0 cannot be read beyond offset 2: UnicodeDecodeError" in caplog.text
    assert "offsets 3 to 4 are gone" in caplog.text


async def test_a_codec_that_is_not_installed_is_named(kafka: Kafka):
    if importlib.util.find_spec("cramjam"):
        pytest.skip("cramjam is installed, which brings every codec")
    topic = await kafka.fresh_topic()
    sender = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": "zstd"})
    sender.produce(topic, b"x" * 10_000)
    assert await asyncio.to_thread(sender.flush, 10) == 0
    one = source(kafka, topic)
    await one.start([topic], _nothing)

    async def polled() -> bool:
        return bool(await one.poll(10, 0.2))

    with pytest.raises(SettingsError, match="cramjam"):
        await eventually(polled, "a delivery")
    await one.stop()


async def test_a_missing_topic_is_named_with_the_way_to_make_it(kafka: Kafka):
    topic = await kafka.fresh_topic()
    with pytest.raises(
        SettingsError, match=r"topic not-there does not exist.*kafka-topics\.sh .*--topic not-there"
    ):
        await source(kafka, topic).start([topic, "not-there"], _nothing)


async def test_nobody_there_at_start():
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=address):
        await KafkaSource(address, "group").start(["topic"], _nothing)
    assert time.monotonic() - began < 20


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_the_broker_goes_and_comes_back(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic) as one:
        await one.has(10)
        await has_committed(kafka.bootstrap, topic, {0: 0})
        await asyncio.to_thread(kafka.stop)
        for delivery in one.came:
            one.source.ack(delivery)
        await eventually(lambda: not one.source.healthy, "it says that the broker is away")
        assert len(one.came) == 10
        await asyncio.to_thread(kafka.start)
        await produce(kafka.bootstrap, topic, [b"after"])
        await eventually(lambda: b"after" in one.values and one.source.healthy, "it goes on by itself", 60)
        await has_committed(kafka.bootstrap, topic, {0: 10})


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_stop_is_bounded_when_the_broker_is_away(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    before = set(asyncio.all_tasks())
    async with member(source(kafka, topic), topic) as one:
        await one.has(10)
        await asyncio.to_thread(kafka.kill)
        for delivery in one.came:
            one.source.ack(delivery)
        began = time.monotonic()
        await one.stop()
        assert time.monotonic() - began < 30
        # The last ones need some turns of the loop to end; none of them goes on.
        await eventually(
            lambda: not {task for task in asyncio.all_tasks() - before if not task.done()}, "none", 5
        )


@pytest.mark.parametrize(
    "routine", ["_coordinator.ensure_coordinator_known", "_fetcher._get_actions_per_node"]
)
async def test_a_client_that_stopped_working_is_replaced(kafka: Kafka, routine: str, caplog):
    topic = await kafka.fresh_topic()
    await produce(kafka.bootstrap, topic, VALUES)
    async with member(source(kafka, topic), topic, acks=lambda _: True) as one:
        await has_committed(kafka.bootstrap, topic, {0: 10})
        owner, name = routine.split(".")
        broken: Any = one.source._consumer

        def fail(*_) -> None:
            raise RuntimeError("a bug in aiokafka")

        setattr(getattr(broken, owner), name, fail)
        broken._coordinator.request_rejoin()  # both routines look at it
        await produce(kafka.bootstrap, topic, [b"after"])
        await eventually(lambda: b"after" in one.values, "it is replaced")
        assert one.source._consumer is not broken
        assert "a bug in aiokafka" in caplog.text
    assert one.values == [*VALUES, b"after"]


async def _nothing() -> None: ...


def position(delivery: Delivery) -> str:
    return delivery.message.position or ""
