"""Where a partition is read from when the broker has no committed offset, or one that it cannot serve.

aiokafka raises in both cases (`auto_offset_reset="none"`), and the answer is explicit:

- no committed offset: the first position (earliest, latest, or a time), committed at once, so that a crash before the first
  acknowledgement does not move it; but first the coordinator is asked again (`committed`);
- out of range: the earliest offset there is, with an error in the log that says how many messages were lost. Stopping
  would lose more with every hour of retention, and what is read twice is recognised by its key.
"""

from __future__ import annotations

import logging
from typing import Literal

from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.assignment import Assignment
from consumer.brokers.kafka.committed import committed_offset
from consumer.brokers.kafka.connect import Consumer
from consumer.brokers.kafka.partition import Partition

__all__ = ["FirstPosition", "begin", "recover"]

_log = logging.getLogger(__name__)

FirstPosition = Literal["earliest", "latest"] | float
"""A word, or seconds since 1970: the first message whose timestamp is not older."""


async def begin(consumer: Consumer, partition: Partition, first: FirstPosition) -> bool:
    """Read `partition` from the first position; return whether that is arranged.

    It is not if the partition was given up meanwhile, or if there is a committed offset after all, where it then goes on.
    """
    tp = partition.tp
    committed = await committed_offset(consumer, tp)
    offset = committed if committed is not None else await _first_offset(consumer, tp, first)
    if not partition.live or partition.watermark.in_hand:
        return False
    if committed is not None:
        _log.warning(
            "%s: the group's coordinator knew of no committed offset and now of %d: going on there",
            partition,
            offset,
        )
        consumer.seek(tp, offset)
        return False
    _log.info("%s: no committed offset, beginning at %s, offset %d", partition, first, offset)
    partition.watermark.position = offset
    consumer.seek(tp, offset)
    return True


async def recover(consumer: Consumer, partition: Partition, assignment: Assignment, asked: int) -> bool:
    """Read `partition` from the earliest offset because `asked` does not exist; return whether that is arranged."""
    tp = partition.tp
    earliest = (await consumer.beginning_offsets([tp]))[tp]
    if not partition.live:
        return False
    if asked < earliest:
        _log.error(
            "%s: offsets %d to %d are gone (retention): %d messages were never read; going on at %d. "
            "Raise the topic's retention or keep up with it",
            partition, asked, earliest - 1, earliest - asked, earliest,
        )  # fmt: skip
        # What is in hand stays in hand: it was read in time.
        if not partition.watermark.in_hand:
            partition.watermark.position = earliest
    else:
        _log.error(
            "%s: offset %d lies beyond the end (topic made anew, or truncated by an unclean election): reading again "
            "from %d; repeats are recognised by their keys",
            partition, asked, earliest,
        )  # fmt: skip
        # New offsets are lower than those in hand: they belong to an epoch of their own.
        assignment.renew(partition).watermark.position = earliest
    consumer.seek(tp, earliest)
    return True


async def _first_offset(consumer: Consumer, tp: TopicPartition, first: FirstPosition) -> int:
    offsets: dict[TopicPartition, int]
    if first == "earliest":
        offsets = await consumer.beginning_offsets([tp])
        return offsets[tp]
    if not isinstance(first, str):
        found = (await consumer.offsets_for_times({tp: int(first * 1000)})).get(tp)
        if found is not None:
            offset: int = found.offset
            return offset
    # `latest`, and a time after which nothing has come: whatever comes is newer.
    offsets = await consumer.end_offsets([tp])
    return offsets[tp]
