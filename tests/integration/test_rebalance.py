"""Members that come and go on a real broker, through our own worker."""

from __future__ import annotations

from consumer.brokers.kafka import KafkaSource
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
