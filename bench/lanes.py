"""`python -m bench.lanes`: handlers with `ordered=True`, freely, beside one stuck lane, and beside thousands of parked ones.

Real Kafka and PostgreSQL, one process, a fresh database and consumer group a run; the runs take turns, medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from consumer import App, AtMostOnce, Key, Retry, Settings, Transactional, Tx
from consumer.entry import Kind, Landing, OnLapse, Settle
from consumer.message import Message
from consumer.stores import open_store
from tests.services import Kafka, Postgres, close

PARTITIONS = 4
LANES = 400
STUCK = b"lane-0"
FAR = 86_400.0

SCHEMA = "create table if not exists steps (id text, lane text)"


class Step(msgspec.Struct):
    """A message: its id and its lane."""

    id: str
    lane: str


class Run(msgspec.Struct, frozen=True):
    """One way to run the same messages."""

    name: str
    ordered: bool = True
    stuck: bool = False
    parked: int = 0


RUNS = (
    Run("not ordered", ordered=False),
    Run("ordered"),
    Run("ordered, one lane stuck", stuck=True),
    Run("ordered, 5,000 lanes parked", parked=5_000),
)


def app_of(run: Run, topic: str, transactional: bool, counted: Counted) -> App:
    """Return an app whose handler counts; the stuck lane's first message waits for a day."""
    app = App("bench")
    app.schema(postgres=[SCHEMA])

    def stuck(step: Step) -> None:
        if run.stuck and step.lane == STUCK.decode():
            raise Retry("stuck", after=FAR)

    options: dict[str, Any] = {"key": Key.field("id"), "ordered": run.ordered, "name": "steps"}
    if transactional:

        @app.on(topic, mode=Transactional(), **options)
        async def take(step: Step, tx: Tx) -> None:
            stuck(step)
            await tx.execute("insert into steps (id, lane) values ($1, $2)", step.id, step.lane)
            counted.one(step)

    else:

        @app.on(topic, mode=AtMostOnce(), **options)
        async def note(step: Step) -> None:
            stuck(step)
            counted.one(step)

    return app


class Counted:
    """Counts the messages of all lanes but the stuck one, and the time from the first to the last."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._seen: set[str] = set()
        self._began = 0.0
        self.seconds = 0.0
        self.done = asyncio.Event()

    def one(self, step: Step) -> None:
        """A handler is about to return."""
        if step.lane == STUCK.decode() or step.id in self._seen:
            return
        self._seen.add(step.id)
        self._began = self._began or time.monotonic()
        self._left -= 1
        if not self._left:
            self.seconds = time.monotonic() - self._began
            self.done.set()


async def park(url: str, lanes: int) -> None:
    """Fill lanes whose first entry waits for a day, with one more behind it."""
    store = open_store(url, "bench")
    try:
        worker = await store.workers.open(600, "bench")
        for number in range(0, lanes, 250):
            batch = [_landing(lane, n) for n in (0, 1) for lane in range(number, min(number + 250, lanes))]
            await store.arrivals.land(batch)
            heads = await store.arrivals.due(worker, ["steps"], 500)
            settles = [
                Settle(h.identity, h.token, Kind.RETRY, "parked", delay=FAR, in_lane=True) for h in heads
            ]
            await store.inbox.turn(worker, settles, [])
        await store.workers.close(worker)
    finally:
        await store.close()


def _landing(lane: int, number: int) -> Landing:
    identity = uuid.uuid4().bytes
    message = Message("steps", b"{}").encode()
    key, name = f"parked-{lane}-{number}".encode(), f"parked-{lane}".encode()
    return Landing(
        identity, "public", "steps", key, identity, OnLapse.WAITING, 5, message, uuid.uuid4().bytes, lane=name
    )


async def preload(bootstrap: str, topic: str, messages: int) -> None:
    """Fill a topic; all lanes in turn."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=1 << 18)
    await producer.start()
    try:
        for number in range(messages):
            lane = f"lane-{number % LANES}"
            value = json.dumps({"id": f"m-{number}", "lane": lane}).encode()
            await producer.send(topic, value, key=lane.encode(), partition=number % LANES % PARTITIONS)
        await producer.flush()
    finally:
        await producer.stop()


async def measure(run: Run, bootstrap: str, topic: str, messages: int, transactional: bool) -> float:
    """Return the messages per second of one run, those of the stuck lane apart."""
    postgres = Postgres.shared()
    url = await postgres.fresh_database()
    try:
        counted = Counted(messages - messages // LANES)
        app = app_of(run, topic, transactional, counted)
        store = open_store(url, app.name)
        await store.migrate(app.own_schema("postgres"))
        await store.close()
        if run.parked:
            await park(url, run.parked)
        settings = Settings.load(store=url, broker=f"kafka://{bootstrap}", consumer_group=uuid.uuid4().hex)
        async with app.running(settings, consume=True):
            async with asyncio.timeout(120):
                await counted.done.wait()
        return (messages - messages // LANES) / counted.seconds
    finally:
        await postgres.drop_database(url)


async def bench(rounds: int, messages: int) -> None:
    """Print a table."""
    kafka = Kafka.shared()
    topic = await kafka.fresh_topic(PARTITIONS)
    await preload(kafka.bootstrap, topic, messages)
    rates: dict[tuple[bool, str], list[float]] = {}
    for _ in range(rounds):
        for transactional in (True, False):
            for run in RUNS:
                rate = await measure(run, kafka.bootstrap, topic, messages, transactional)
                print(f"{run.name}: {rate:,.0f}/s", file=sys.stderr)
                rates.setdefault((transactional, run.name), []).append(rate)
    for transactional in (True, False):
        print(f"{'Transactional, tx.execute' if transactional else 'AtMostOnce, 64 slots'} ({LANES} lanes)")
        free = statistics.median(rates[transactional, "ordered"])
        for run in RUNS:
            print(_line(run, rates[transactional, run.name], free))


def _line(run: Run, found: Sequence[float], free: float) -> str:
    middle = statistics.median(found)
    return (
        f"  {run.name:28} {middle:8,.0f}/s  {middle / free:5.2f} of ordered  {1e6 / middle:6.0f} µs a message"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=12_000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    try:
        asyncio.run(bench(arguments.rounds, arguments.messages))
    finally:
        close()


if __name__ == "__main__":
    main()
