"""A topic that gets more partitions while it is read."""

from __future__ import annotations

import pytest
from aiokafka.admin import NewPartitions

from consumer.brokers.kafka import KafkaSource, connect
from tests.integration.kafka_tools import admin, eventually, member, produce
from tests.services import Kafka


async def test_partitions_that_are_added_are_read_soon(kafka: Kafka, monkeypatch: pytest.MonkeyPatch):
    """Also what was written to them before anybody of the group has seen them."""
    monkeypatch.setattr(connect, "METADATA_AGE_MS", 500)
    topic = await kafka.fresh_topic(1)
    await produce(kafka.bootstrap, topic, [b"before"], 0)
    one = KafkaSource(kafka.bootstrap, topic, session_timeout=6.0, rebalance_timeout=12.0)
    async with member(one, topic, acks=lambda _: True) as busy:
        await busy.has(1)
        async with admin(kafka.bootstrap) as client:
            await client.create_partitions({topic: NewPartitions(total_count=3)})
        await produce(kafka.bootstrap, topic, [b"behind"], 2)
        await busy.has(2)
        await eventually(lambda: len(busy.source.assigned) == 3, "all of them are ours")
    assert busy.values == [b"before", b"behind"]
