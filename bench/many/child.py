"""One process of a run: an ordinary worker, whose acknowledgements the parent reads in shared memory."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.load import Payment
from bench.meter import Meter, MeteredSource
from bench.ours import ROW
from consumer import App, AtMostOnce, Key, Settings, Transactional, Tx
from consumer.worker.connect import connect

__all__ = ["APPS", "PollJob", "WorkerJob", "poll", "work"]


class WorkerJob(msgspec.Struct):
    """What a worker process is told: which of `APPS`, and its settings."""

    app: str
    store: str
    bootstrap: str
    group: str
    topic: str
    slots: int = 64
    concurrency: int = 0


class PollJob(msgspec.Struct):
    """What a process that only reads and decodes is told."""

    bootstrap: str
    group: str
    topic: str


class _Counting(Meter):
    """Tells the parent how many deliveries need never come again."""

    def __init__(self, shared: Synchronized[int]) -> None:
        super().__init__(1 << 60)
        self._shared = shared

    def ended(self, count: int = 1) -> None:
        """See `Meter`; only this process writes, so no lock is taken."""
        self._shared.get_obj().value += count


def write(job: WorkerJob) -> App:
    """Return an app with one Transactional handler that writes a row."""
    app = App("bench")

    @app.on(job.topic, key=Key.field("payment_id"), mode=Transactional())
    async def take(payment: Payment, tx: Tx) -> None:
        tx.write(ROW, payment.payment_id, payment.account, payment.amount, payment.currency)

    return app


def nothing(job: WorkerJob) -> App:
    """Return an app with one at-most-once handler that does nothing."""
    app = App("bench")

    @app.on(job.topic, key=Key.field("payment_id"), mode=AtMostOnce())
    async def take(payment: Payment) -> None:
        """Take effect elsewhere."""

    return app


def wait(job: WorkerJob) -> App:
    """Return an app with one at-most-once handler that waits for 10 ms, so many at once."""
    app = App("bench")

    @app.on(job.topic, key=Key.field("payment_id"), mode=AtMostOnce(), concurrency=job.concurrency)
    async def take(payment: Payment) -> None:  # noqa: ARG001 - it stands for a request to somebody
        await asyncio.sleep(0.01)

    return app


APPS: dict[str, Callable[[WorkerJob], App]] = {"write": write, "nothing": nothing, "wait": wait}


def work(job: WorkerJob, shared: Synchronized[int], end: Any) -> None:
    """Consume until `end` is set (a `multiprocessing.Event`)."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    gc.freeze()
    asyncio.run(_work(job, shared, end))


async def _work(job: WorkerJob, shared: Synchronized[int], end: Any) -> None:
    app = APPS[job.app](job)
    settings = Settings.load(
        store=job.store,
        broker=f"kafka://{job.bootstrap}",
        consumer_group=job.group,
        slots=job.slots,
    )
    connections = connect(app.name, settings, app.handlers.declared)
    assert connections.source is not None
    connections.source = MeteredSource(connections.source, _Counting(shared))
    async with app.running(settings, consume=True, connections=connections):
        await asyncio.to_thread(end.wait)


def poll(job: PollJob, shared: Synchronized[int], end: Any) -> None:
    """Read and decode, and nothing else, until `end` is set: what nobody who uses this client can exceed."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.run(_poll(job, shared, end))


async def _poll(job: PollJob, shared: Synchronized[int], end: Any) -> None:
    decode = msgspec.json.Decoder(Payment).decode
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while not end.is_set():
            polled = await consumer.getmany(timeout_ms=200, max_records=500)
            for records in polled.values():
                for record in records:
                    decode(record.value or b"")
                shared.get_obj().value += len(records)
    finally:
        await consumer.stop()
