"""The reference application driven from outside: as processes, over real services."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import RecordMetadata

from tests.services import Kafka

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
TOPICS = ("payments.requested", "payments.settled", "orders.placed", "notifications.send", "receipts.send")


class Shop:
    """One deployment of the reference application, in one folder: a store, a broker, workers."""

    def __init__(
        self, folder: Path, *, store: str, broker: str = "embedded:", app: str = "handlers.app:app"
    ) -> None:
        self.app = app
        self.folder = folder
        self.effects = folder / "effects.jsonl"
        self.workers: list[subprocess.Popen[str]] = []
        self.ready = ""
        self.environment = os.environ | {
            "CONSUMER_STORE": store,
            "CONSUMER_BROKER": broker,
            "SHOP_EFFECTS": str(self.effects),
            "PYTHONPATH": str(ROOT),
        }

    def command(self, *arguments: str, input_text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "consumer", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            input=input_text,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, input_text: str | None = None) -> str:
        done = self.command(*arguments, input_text=input_text)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def migrate(self) -> None:
        self.ok("migrate", self.app)

    def publish(self, topic: str, values: Iterable[Any], *arguments: str) -> None:
        lines = "".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values)
        self.ok("publish", self.app, topic, "--file", "-", *arguments, input_text=lines)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a worker, and do not wait for it."""
        with (self.folder / f"worker-{len(self.workers)}.log").open("w") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", self.app, *arguments],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.workers.append(worker)
        return worker

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a worker, and wait until it is ready; what it said then is in `ready`."""
        worker = self.begin(*arguments)
        assert worker.stdout is not None
        self.ready = worker.stdout.readline()
        assert self.ready.startswith("ready"), f"{self.ready!r}, exit {worker.poll()}\n{self.logs()}"
        return worker

    def log_of(self, worker: subprocess.Popen[str]) -> str:
        return (self.folder / f"worker-{self.workers.index(worker)}.log").read_text()

    def await_log(self, text: str, worker: subprocess.Popen[str], seconds: float = 20) -> None:
        """Wait until a worker has written `text` to its log."""
        deadline = time.monotonic() + seconds
        while text not in self.log_of(worker):
            assert time.monotonic() < deadline, f"no {text!r} in\n{self.log_of(worker)}"
            assert worker.poll() is None, f"exit {worker.poll()}\n{self.log_of(worker)}"
            time.sleep(0.05)

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}"
            for path in sorted(self.folder.glob("worker-*.log"))
        )

    @staticmethod
    def kill(worker: subprocess.Popen[str]) -> None:
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    @staticmethod
    def terminate(worker: subprocess.Popen[str], timeout: float = 40) -> int:
        worker.send_signal(signal.SIGTERM)
        return worker.wait(timeout)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ok("inbox", "list", "-o", "json", *arguments))
        return found

    def shown(self, key: str, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("inbox", "show", key, "-o", "json", *arguments))
        return found

    def lines(self) -> list[dict[str, Any]]:
        if not self.effects.exists():
            return []
        return [json.loads(line) for line in self.effects.read_text().splitlines()]


async def until(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str | Callable[[], str]
) -> None:
    """Ask until it is so; `what` is the failure's text, or makes it when it is needed."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.05)


async def fresh_shop_topics(kafka: Kafka, partitions: int = 6) -> None:
    """The application's topics have fixed names: make them anew for a test.

    They take records of 8 MiB from the beginning: a broker applies a limit that is altered later some time after it has
    said so.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        old = [topic for topic in TOPICS if topic in await admin.list_topics()]
        if old:
            await admin.delete_topics(old)

            async def gone() -> bool:
                return not set(old) & set(await admin.list_topics())

            await until(gone, 20, f"{old} deleted")
    finally:
        await admin.close()
    await kafka.create_topics(dict.fromkeys(TOPICS, partitions), max_message_bytes=str(8 * 1024 * 1024))


async def produce(
    bootstrap: str,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes | None]],
    headers: Any = None,
    partition: int | None = None,
) -> list[RecordMetadata]:
    """Produce (record key, value) pairs with a client of our own; return where each went."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=5, max_request_size=16 * 1024 * 1024
    )
    await producer.start()
    try:
        sent = [
            await producer.send(topic, value, key=key, headers=headers, partition=partition)
            for key, value in records
        ]
        return list(await asyncio.gather(*sent))
    finally:
        await producer.stop()


async def read_all(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic, as it stands now."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = list(consumer.assignment())
        assert partitions, f"{topic} has partitions"
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return records
    finally:
        await consumer.stop()


async def committed(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """The consumer group's committed offsets, as the broker has them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
        return {(tp.topic, tp.partition): meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
    finally:
        await admin.close()


async def unchanging(look: Callable[[], Awaitable[T]]) -> T:
    """What is seen when two looks half a second apart agree: what was under way to the broker has arrived by then."""
    seen = await look()
    while True:
        await asyncio.sleep(0.5)  # another process' requests under way have no event
        if (now := await look()) == seen:
            return seen
        seen = now


async def rows(url: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()
