"""How far behind a partition is: told of what is unfinished, not of what is committed."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.lag import lag_of
from consumer.brokers.kafka.partition import Partition
from consumer.errors import BrokerUnavailable
from consumer.ports.transport import Lag

TP = TopicPartition("orders", 3)
NOW = 10_000.0


class Client:
    """The two questions that are asked of aiokafka."""

    def __init__(self, end: int, position: int | None = None) -> None:
        self.end = end
        self.at = position

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def position(self, partition: TopicPartition) -> int:
        if self.at is None:
            raise TimeoutError
        return self.at


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [NOW]
    monkeypatch.setattr("consumer.brokers.kafka.lag.time.time", lambda: now[0])
    return now


async def lags(client: Any, *partitions: Partition) -> list[Lag]:
    return await lag_of("broker:9092", client, partitions, 1.0)


def taken(partition: Partition, *offsets: int, at: float) -> None:
    """Take a batch in hand whose first record the broker took at `at`."""
    for offset in offsets:
        partition.watermark.delivered(offset)
    partition.stamp(offsets[0], at)


async def test_what_is_in_hand_is_behind() -> None:
    partition = Partition(TP, 1)
    taken(partition, 10, 11, 12, at=NOW - 50)
    taken(partition, 13, 14, at=NOW - 20)
    partition.watermark.acked(11)  # the first one hangs
    assert await lags(Client(end=20, position=15), partition) == [Lag("orders", 3, 10, 50.0)]
    partition.watermark.acked(10)
    partition.watermark.acked(12)
    assert await lags(Client(end=20, position=15), partition) == [Lag("orders", 3, 7, 20.0)]


async def test_with_nothing_in_hand_the_position_counts_and_not_the_commit() -> None:
    """Behind the last committed offset may lie marks of transactions, which nobody is ever given."""
    partition = Partition(TP, 1)
    taken(partition, 10, at=NOW - 50)
    partition.watermark.acked(10)
    assert await lags(Client(end=12, position=12), partition) == [Lag("orders", 3, 0, 0.0)]


async def test_what_waits_in_the_broker_ages_from_the_first_look(clock: list[float]) -> None:
    partition = Partition(TP, 1)
    client = Client(end=12, position=10)
    assert await lags(client, partition) == [Lag("orders", 3, 2, 0.0)]
    clock[0] += 30
    assert await lags(client, partition) == [Lag("orders", 3, 2, 30.0)]
    client.at = 12
    assert await lags(client, partition) == [Lag("orders", 3, 0, 0.0)]
    client.end = 13
    assert await lags(client, partition) == [Lag("orders", 3, 1, 0.0)], "counted anew"


async def test_a_broker_s_clock_that_is_ahead_makes_no_negative_age() -> None:
    partition = Partition(TP, 1)
    taken(partition, 0, at=NOW + 5)
    assert await lags(Client(end=1), partition) == [Lag("orders", 3, 1, 0.0)]


async def test_a_partition_without_a_position_is_not_told_of() -> None:
    assert await lags(Client(end=12), Partition(TP, 1)) == []


async def test_a_broker_that_does_not_answer_is_named() -> None:
    class Away(Client):
        async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
            raise TimeoutError

    with pytest.raises(BrokerUnavailable, match="broker:9092"):
        await lags(Away(0), Partition(TP, 1))
    assert await lags(Away(0)) == [], "without a partition nobody is asked"


def test_stamps_are_kept_only_as_long_as_something_of_their_batch_is_in_hand() -> None:
    partition = Partition(TP, 1)
    for batch in range(100):
        taken(partition, batch * 2, batch * 2 + 1, at=NOW + batch)
        partition.watermark.acked(batch * 2)
        partition.watermark.acked(batch * 2 + 1)
    assert len(partition._stamps) <= 2
    assert partition.oldest is None
