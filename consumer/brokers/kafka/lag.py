"""How far this member is behind, asked of the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.connect import Consumer, translated
from consumer.brokers.kafka.partition import Partition
from consumer.ports.transport import Lag

__all__ = ["lag_of"]

_POSITION = 1.0  # seconds to wait for a position that is not known yet


async def lag_of(
    bootstrap: str, consumer: Consumer, partitions: Sequence[Partition], limit: float
) -> list[Lag]:
    """Return the lag of each partition whose position is known.

    Args:
        bootstrap: for messages to people.
        consumer: whose positions count.
        partitions: ours now.
        limit: seconds that the broker has.

    Raises:
        BrokerUnavailable: it does not answer in time.
    """
    if not partitions:
        return []
    with translated(bootstrap):
        async with asyncio.timeout(limit):
            ends = await consumer.end_offsets([p.tp for p in partitions])
    found = [await _lag(consumer, p, _end(consumer, p, ends)) for p in partitions]
    return [lag for lag in found if lag is not None]


def _end(consumer: Consumer, partition: Partition, ends: Mapping[TopicPartition, int]) -> int | None:
    """Return where a partition ends: `ends`, as readers of transactions see them, stop before the first open one.

    What waits behind one that nobody ends waits all the same; the last answer to a fetch says how much that is.
    """
    end = ends.get(partition.tp)
    try:
        high = consumer.highwater(partition.tp)
    except (AssertionError, AttributeError):  # given up meanwhile
        return end
    return end if end is None or high is None else max(end, high)


async def _lag(consumer: Consumer, partition: Partition, end: int | None) -> Lag | None:
    position = partition.watermark.first
    if position is None and partition.live:
        # Nothing is in hand. Not the committed offset: behind it may lie nothing but marks of transactions.
        try:
            async with asyncio.timeout(_POSITION):
                position = await consumer.position(partition.tp)
        except Exception:  # noqa: BLE001 - given up meanwhile, or no position yet: then nothing is said of it
            return None
    if position is None or end is None:
        return None
    messages = max(end - position, 0)
    return Lag(partition.tp.topic, partition.tp.partition, messages, _seconds(partition, messages))


def _seconds(partition: Partition, messages: int) -> float:
    now = time.time()
    oldest = partition.oldest
    if oldest is not None or not messages:
        partition.behind_since = None
        return 0.0 if oldest is None else max(now - oldest, 0.0)
    if partition.behind_since is None:
        partition.behind_since = now
    return now - partition.behind_since
