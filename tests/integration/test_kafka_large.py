"""Large messages: what a process holds of them is bounded in bytes, not only in their number."""

from __future__ import annotations

from collections.abc import Callable

from consumer.brokers.kafka import KafkaSource
from consumer.message import Delivery
from tests.integration.kafka_tools import Member, eventually, member, produce
from tests.services import Kafka

LARGE = [b"%d" % number + bytes(100_000) for number in range(40)]
SHARE = 500_000
"""Bytes of one of two partitions: five large messages."""

FETCH = 11
"""Large messages of one fetch (1 MiB): so many may come beyond the share."""


def partition_of(delivery: Delivery) -> int:
    return int((delivery.message.position or "").split("/")[1])


def more_than(busy: Member, count: int) -> Callable[[], bool]:
    return lambda: len(busy.offsets(0)) > count


async def test_bytes_in_hand_stop_their_own_partition_only(kafka: Kafka):
    """Acknowledged ones give their bytes back at once, although the first is unfinished and the position stands still."""
    topic = await kafka.fresh_topic(2)
    for number in range(2):
        await produce(kafka.bootstrap, topic, LARGE, number)
    one = KafkaSource(kafka.bootstrap, topic, in_hand_bytes=2 * SHARE)
    async with member(one, topic, acks=lambda delivery: partition_of(delivery) == 1) as busy:
        await eventually(lambda: len(busy.offsets(1)) == 40, "all of the partition that moves")
        await eventually(lambda: len(busy.offsets(0)) >= 5, "the other one's share")
        assert len(busy.offsets(0)) <= 5 + FETCH
        first, *others = [delivery for delivery in busy.came if partition_of(delivery) == 0]
        done = 0
        while len(busy.offsets(0)) < 40:
            for delivery in others[done:]:
                busy.source.ack(delivery)
            done = len(others)
            await eventually(more_than(busy, 1 + done), "more, behind the first")
            others = [delivery for delivery in busy.came if partition_of(delivery) == 0][1:]
        assert busy.source.held(first)
    assert busy.offsets(0) == list(range(40))


async def test_a_message_larger_than_the_share_is_delivered_by_itself(kafka: Kafka):
    """The bound never stops a partition that holds nothing."""
    topic = await kafka.fresh_topic(1)
    await produce(kafka.bootstrap, topic, LARGE[:30], 0)
    one = KafkaSource(kafka.bootstrap, topic, in_hand_bytes=1)
    async with member(one, topic, acks=lambda _: True) as busy:
        await eventually(lambda: len(busy.offsets(0)) == 30, "each, one after the other")
