"""Records that the client library cannot parse because a header's *name* is not UTF-8: read on a path of their own.

A broker takes such names, so one of them would stop its partition for ever. Here the records are fetched once more, with the
same request that the library makes, and go through the library's own reading of transactions: what it would not deliver
(aborted, control batches, below the position) is not delivered here either. Only the parser of the records is another.

It takes the rest of the whole batch: the library parses a batch from its beginning whatever the position is, so it can
deliver nothing behind such a record before the next batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.connect import Consumer
from consumer.brokers.kafka.partition import Partition
from consumer.brokers.kafka.record import to_delivery
from consumer.brokers.kafka.tolerant import TolerantRecords
from consumer.message import Delivery

__all__ = ["Rescued", "blames_a_name", "rescue"]

_WAIT_MS = 100
_FETCH = 1024 * 1024  # bytes, the library's own default; a first batch that is larger comes whole
_LONGEST_NAME = 40  # bytes of a name that a reason shows
_TRANSACTIONS_SINCE = 4  # version of the answer that names aborted transactions
_REPLICA_SINCE = 11  # version of the answer in which one more field stands between them and the records

_reading: Any = PartitionRecords
_fetch_request: Any = FetchRequest


class Rescued(NamedTuple):
    """What was read: `deliveries` in order (those with such a name say why they are unreadable), and where to go on."""

    deliveries: list[Delivery]
    behind: int


def blames_a_name(error: Exception) -> bool:
    """Return whether the parser stopped at text that is not UTF-8: in a record only header names are text."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, CorruptRecordException) and isinstance(error.__cause__, UnicodeDecodeError)
    )


async def rescue(consumer: Consumer, partition: Partition) -> Rescued | None:
    """Fetch what is left, at the position of `partition`, of a batch with header names that are not UTF-8.

    Nothing is moved: whoever accepts the deliveries seeks behind them.

    Args:
        consumer: has met such a name at its position, and delivered everything before it.
        partition: whose records.

    Returns:
        `None` where the records could not be had, or no such name is there: whatever is wrong, it is not for us to mend.
    """
    try:
        position = await consumer.position(partition.tp)
        answer = await _fetch(consumer, partition.tp, position)
    except KafkaError:
        return None
    if answer is None:
        return None
    data, aborted = answer
    batches = TolerantRecords(data)
    records = _reading(partition.tp, batches, aborted, position, None, None, True, READ_COMMITTED)  # noqa: FBT003
    found: list[Delivery] = []
    of_batch = 0
    try:
        for record in records:
            if not batches.bad_names or (found and batches.taken != of_batch):
                break
            of_batch = batches.taken
            found.append(_delivery(record, partition, batches.bad_names.get(record.offset)))
    except CorruptRecordException:
        # What came before it counts. Behind it nothing is delivered: it is met again, and then nothing comes before it.
        return Rescued(found, found[-1].receipt[1] + 1) if found else None
    behind = found[-1].receipt[1] + 1 if found else records.next_fetch_offset
    return Rescued(found, behind) if batches.bad_names and behind > position else None


async def _fetch(consumer: Consumer, tp: TopicPartition, position: int) -> tuple[bytes, Any] | None:
    """Return the bytes at `position` and the transactions aborted in them, or `None` where the leader gives neither."""
    client = consumer._client  # noqa: SLF001 - the library offers no other way to the bytes
    leader = client.cluster.leader_for_partition(tp)
    if leader is None or leader < 0:
        return None
    wanted = [(tp.topic, [(tp.partition, position, _FETCH)])]
    answer = await client.send(leader, _fetch_request(_WAIT_MS, 1, _FETCH, READ_COMMITTED, wanted))
    if answer.API_VERSION < _TRANSACTIONS_SINCE or not answer.topics:
        return None
    _, fault, _, *rest = answer.topics[0][1][0]
    if fault:
        return None
    return bytes(rest[-1] or b""), rest[-3 if answer.API_VERSION >= _REPLICA_SINCE else -2]


def _delivery(record: Any, partition: Partition, bad_name: bytes | None) -> Delivery:
    delivery = to_delivery(record, partition)
    if bad_name is None:
        return delivery
    return msgspec.structs.replace(delivery, unreadable=_reason(bad_name))


def _reason(name: bytes) -> str:
    return f"header name {name[:_LONGEST_NAME]!r}{'...' if len(name) > _LONGEST_NAME else ''} is not UTF-8"
