"""The contestants written by hand: what a careful team writes without a framework, and what a careless one does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from bench.load import Payment
from bench.meter import Measured, Meter

__all__ = ["SCHEMA", "at_most_once", "hand_batched", "limit", "naive"]

SCHEMA = """
create table inbox (
    key text primary key,
    state text not null default 'done',
    created_at timestamptz not null default now()
);
create table ledger (payment_id text not null, account text not null, amount bigint not null, currency text not null)
"""

_CLAIM = "insert into inbox (key) select unnest($1::text[]) on conflict do nothing returning key"
_CLAIM_ONE = "insert into inbox (key) values ($1) on conflict do nothing"
_START = (
    "insert into inbox (key, state) select unnest($1::text[]), 'running' on conflict do nothing returning key"
)
_FINISH = "update inbox set state = 'done' where key = any($1::text[])"
_ROW = "insert into ledger (payment_id, account, amount, currency) values ($1, $2, $3, $4)"
_ROWS = (
    "insert into ledger (payment_id, account, amount, currency)"
    " select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[])"
)

_decode = msgspec.json.Decoder(Payment).decode


async def naive(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """A transaction per message; offsets are committed, and waited for, once a poll."""
    meter = Meter(messages)
    connection = await asyncpg.connect(store)
    async for consumer, records in _polls(bootstrap, topic, meter, 500):
        for record in records:
            payment = _decode(record.value or b"")
            async with connection.transaction():
                if await connection.execute(_CLAIM_ONE, payment.payment_id) == "INSERT 0 1":
                    await connection.execute(_ROW, *_columns(payment))
        await consumer.commit()
        meter.ended(len(records))
    await connection.close()
    return meter.measured()


async def hand_batched(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """A poll is a transaction: one claim for all, a statement per new key, one commit; offsets behind."""
    meter = Meter(messages)
    connection = await asyncpg.connect(store)
    behind = _Behind()
    async for consumer, records in _polls(bootstrap, topic, meter, 500):
        payments = [_decode(record.value or b"") for record in records]
        async with connection.transaction():
            for payment in await _won(connection, _CLAIM, payments):
                await _handle(connection, payment)
        await behind.commit(consumer)
        meter.ended(len(records))
    await behind.end()
    await connection.close()
    return meter.measured()


async def limit(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """As `hand_batched`, but without handlers: the rows of a poll are one statement. Nothing generic can be faster."""
    meter = Meter(messages)
    connection = await asyncpg.connect(store)
    behind = _Behind()
    async for consumer, records in _polls(bootstrap, topic, meter, 500):
        payments = [_decode(record.value or b"") for record in records]
        async with connection.transaction():
            new = await _won(connection, _CLAIM, payments)
            if new:
                await connection.execute(_ROWS, *map(list, zip(*map(_columns, new), strict=True)))
        await behind.commit(consumer)
        meter.ended(len(records))
    await behind.end()
    await connection.close()
    return meter.measured()


async def at_most_once(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """Claim 64 in one commit, run them, settle them in another: at most 64 are in doubt after a crash."""
    meter = Meter(messages)
    started = 0
    connection = await asyncpg.connect(store)
    behind = _Behind()
    async for consumer, records in _polls(bootstrap, topic, meter, 64):
        payments = [_decode(record.value or b"") for record in records]
        new = await _won(connection, _START, payments)
        for payment in new:
            await _handle_nothing(payment)
        started += len(new)
        if new:
            await connection.execute(_FINISH, [payment.payment_id for payment in new])
        await behind.commit(consumer)
        meter.ended(len(records))
    await behind.end()
    await connection.close()
    return meter.measured(started)


async def _handle(connection: asyncpg.Connection, payment: Payment) -> None:
    await connection.execute(_ROW, *_columns(payment))


async def _handle_nothing(payment: Payment) -> None:
    """Take effect somewhere else."""


def _columns(payment: Payment) -> tuple[str, str, int, str]:
    return payment.payment_id, payment.account, payment.amount, payment.currency


async def _won(connection: asyncpg.Connection, claim: str, payments: Sequence[Payment]) -> list[Payment]:
    """Return the payments whose key is new, the first of each key, in order."""
    won = {row[0] for row in await connection.fetch(claim, [payment.payment_id for payment in payments])}
    new: list[Payment] = []
    for payment in payments:
        if payment.payment_id in won:
            won.discard(payment.payment_id)
            new.append(payment)
    return new


async def _polls(
    bootstrap: str, topic: str, meter: Meter, size: int
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[ConsumerRecord[bytes, bytes]]]]:
    """Yield polls until the meter has all messages."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while not meter.done.is_set():
            polled = await consumer.getmany(timeout_ms=200, max_records=size)
            records = [record for part in polled.values() for record in part]
            if records:
                meter.arrived()
                yield consumer, records
    finally:
        await consumer.stop()


class _Behind:
    """Commits offsets while the next poll is worked on; one commit is in flight at most."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def commit(self, consumer: AIOKafkaConsumer) -> None:
        await self.end()
        self._task = asyncio.create_task(consumer.commit())

    async def end(self) -> None:
        if self._task is not None:
            await self._task
