"""The messages that every contestant consumes, and the topic that holds them."""

from __future__ import annotations

import random
import uuid
from typing import NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer

__all__ = ["PARTITIONS", "RECORD_BYTES", "Load", "Payment", "preload"]

PARTITIONS = 4
RECORD_BYTES = 285
"""Bytes of a record's value: a small business message."""

ACCOUNTS = 1_000
NEARBY = 1_000
"""A duplicate repeats one of so many new messages before it: redeliveries come soon."""


class Payment(msgspec.Struct):
    """The payload; all contestants decode it with msgspec."""

    payment_id: str
    account: str
    amount: int
    currency: str
    note: str


class Load(NamedTuple):
    """A topic with its messages in it.

    Attributes:
        topic: its name, with `PARTITIONS` partitions.
        messages: how many there are.
        unique: how many different keys they have.
    """

    topic: str
    messages: int
    unique: int


async def preload(bootstrap: str, topic: str, messages: int, duplicates: float) -> Load:
    """Fill an empty topic; the same arguments always make the same contents.

    Args:
        bootstrap: `host:port` of Kafka.
        topic: exists, empty.
        messages: how many.
        duplicates: the share of messages that repeat an earlier one, bytes and all.
    """
    chance = random.Random(messages)
    new: list[tuple[bytes, bytes]] = []
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=1 << 18)
    await producer.start()
    try:
        for number in range(messages):
            if new and chance.random() < duplicates:
                key, value = new[-chance.randint(1, min(NEARBY, len(new)))]
            else:
                key, value = _record(chance)
                new.append((key, value))
            await producer.send(topic, value, key=key, partition=hash_of(key) % PARTITIONS)
            if number % 10_000 == 0:
                await producer.flush()
        await producer.flush()
    finally:
        await producer.stop()
    return Load(topic, messages, len(new))


def hash_of(account: bytes) -> int:
    """Return a number that is the same in every process, unlike `hash`."""
    return int.from_bytes(account[-2:], "big")


def _record(chance: random.Random) -> tuple[bytes, bytes]:
    account = f"account-{chance.randrange(ACCOUNTS):04}"
    ident = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    payment = Payment(ident, account, chance.randrange(1, 100_000), "EUR", "")
    payment.note = "x" * (RECORD_BYTES - len(msgspec.json.encode(payment)))
    return account.encode(), msgspec.json.encode(payment)
