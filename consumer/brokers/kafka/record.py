"""From a Kafka record to a delivery: bytes stay bytes, nothing is decoded that could fail."""

from __future__ import annotations

from typing import Any

from consumer.brokers.kafka.partition import Partition
from consumer.message import Delivery, Headers, Message

__all__ = ["ORDERING_KEY", "size_of", "to_delivery"]

ORDERING_KEY = "ordering-key"
"""The header that carries the ordering key, both ways."""

_LOG_APPEND_TIME = 1
"""The type of a timestamp that the broker made."""


def to_delivery(record: Any, partition: Partition) -> Delivery:
    """Return `record` as a delivery of `partition`.

    A header without a value becomes an empty one; the last `ordering-key` header counts, and is ignored where it is
    not UTF-8 or empty. The timestamp is the record's: the broker's clock where the topic says `LogAppendTime`, else the
    producer's.
    """
    headers: Headers = ()
    ordering_key = None
    if record.headers:
        headers = tuple([(name, b"" if value is None else value) for name, value in record.headers])
        ordering_key = _ordering_key(headers)
    message = Message(
        topic=record.topic,
        value=record.value,
        headers=headers,
        record_key=record.key,
        ordering_key=ordering_key,
        source="kafka",
        position=f"{record.topic}/{record.partition}/{record.offset}",
        timestamp=record.timestamp / 1000 if record.timestamp >= 0 else None,
    )
    taken_at = message.timestamp if record.timestamp_type == _LOG_APPEND_TIME else None
    return Delivery(message, (partition, record.offset), taken_at)


def size_of(message: Message) -> int:
    """Return the bytes of a message's key, value and headers."""
    size = len(message.value or b"") + len(message.record_key or b"")
    for name, value in message.headers:
        size += len(name) + len(value)
    return size


def _ordering_key(headers: Headers) -> str | None:
    for name, value in reversed(headers):
        if name == ORDERING_KEY:
            try:
                return value.decode() or None
            except UnicodeDecodeError:
                return None
    return None
