"""`python -m bench.many`: Redis beside reading alone, several processes, handlers that wait; medians, one table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.load import PARTITIONS, Load, preload
from bench.machine import described
from bench.many.child import PollJob, WorkerJob, poll, work
from bench.ours import LEDGER
from consumer.entry import State
from consumer.ports.store import Store
from consumer.stores import open_store
from tests.integration.rediskit import server
from tests.services import Kafka, Postgres, Unavailable, close

WARM = 0.25
"""The share of messages before the clock starts: by then every process has joined the consumer group."""

LIMIT = 180.0
"""Seconds for one run."""


class Row(NamedTuple):
    """A line of the table: who, on which store, how many messages, and how."""

    title: str
    app: str
    store: str
    messages: int
    processes: int = 1
    slots: int = 64
    concurrency: int = 0
    duplicates: float = 0.2


ROWS = {
    "poll": Row("reading and decoding alone", "", "", 60_000),
    "redis64": Row("AtMostOnce(), Redis, 64 slots", "nothing", "redis", 20_000),
    "redis256": Row("AtMostOnce(), Redis, 256 slots", "nothing", "redis", 20_000, slots=256),
    "again": Row(
        "AtMostOnce(), Redis, 64 slots, 99 % duplicates", "nothing", "redis", 20_000, duplicates=0.99
    ),
    "one": Row("tx.write, Postgres, 1 process", "write", "postgres", 60_000),
    "two": Row("tx.write, Postgres, 2 processes", "write", "postgres", 60_000, processes=2),
    "four": Row("tx.write, Postgres, 4 processes", "write", "postgres", 60_000, processes=4),
    "wait1": Row("10 ms of waiting, concurrency 1", "wait", "postgres", 400, concurrency=1),
    "wait16": Row("10 ms of waiting, concurrency 16", "wait", "postgres", 3_000, concurrency=16),
    "wait64": Row("10 ms of waiting, concurrency 64", "wait", "postgres", 6_000, concurrency=64),
}


async def bench(only: list[str], rounds: int) -> int:
    """Run the rows that were asked for, or all; print the table."""
    postgres, kafka = Postgres.shared(), Kafka.shared()
    chosen = {name: row for name, row in ROWS.items() if not only or name in only}
    loads: dict[tuple[int, float], Load] = {}
    for row in chosen.values():
        if (row.messages, row.duplicates) not in loads:
            topic = await kafka.fresh_topic(PARTITIONS)
            loads[row.messages, row.duplicates] = await preload(
                kafka.bootstrap, topic, row.messages, row.duplicates
            )
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(1, rounds + 1):
        for name, row in chosen.items():
            rate = await _run(row, loads[row.messages, row.duplicates], postgres, kafka)
            rates[name].append(rate)
            print(f"round {number}  {name:8} {rate:9,.0f}/s", file=sys.stderr, flush=True)
    table = Table(title=f"medians of {rounds} interleaved runs", title_justify="left")
    table.add_column("who")
    table.add_column("messages/s", justify="right")
    table.add_column("slowest - fastest", justify="right")
    for name, row in chosen.items():
        found = rates[name]
        table.add_row(row.title, f"{statistics.median(found):,.0f}", f"{min(found):,.0f} - {max(found):,.0f}")
    console = Console(width=None if Console().is_terminal else 110)
    console.print(table)
    console.print(await described(postgres, kafka), highlight=False, soft_wrap=True)
    return 0


async def _run(row: Row, load: Load, postgres: Postgres, kafka: Kafka) -> float:
    if not row.store:
        job = PollJob(kafka.bootstrap, uuid.uuid4().hex, load.topic)
        return await asyncio.to_thread(_timed, load.messages, [(poll, job)])
    if row.store == "redis":
        with server() as redis:
            return await _on(row, redis.url, load, kafka)
    url = await postgres.fresh_database()
    try:
        return await _on(row, url, load, kafka)
    finally:
        await postgres.drop_database(url)


async def _on(row: Row, url: str, load: Load, kafka: Kafka) -> float:
    store = open_store(url, "bench")
    await store.migrate([LEDGER] if row.store == "postgres" else [])
    await store.close()
    group = uuid.uuid4().hex
    job = WorkerJob(row.app, url, kafka.bootstrap, group, load.topic, row.slots, row.concurrency)
    store = open_store(url, "bench")
    await store.open()
    try:
        loop = asyncio.get_running_loop()

        def finished() -> bool:
            return asyncio.run_coroutine_threadsafe(_all_done(store, load.unique), loop).result()

        rate = await asyncio.to_thread(_timed, load.messages, [(work, job)] * row.processes, finished)
    finally:
        await store.close()
    if row.app == "write":
        connection = await asyncpg.connect(url)
        found = await connection.fetchval("select count(*) from ledger")
        await connection.close()
        if found != load.unique:
            raise RuntimeError(f"void: {row.title}: {found} rows for {load.unique} different keys")
    return rate


async def _all_done(store: Store, unique: int) -> bool:
    """Whether every key is done. What a rebalance made come again is acknowledged twice, so acknowledgements do not say."""
    counts = {count.state: count.count for count in await store.operator.stats()}
    return counts == {State.DONE: unique}


def _timed(messages: int, jobs: list[tuple[Any, Any]], finished: Callable[[], bool] = lambda: True) -> float:
    """Return messages a second, of those after the warm-up."""
    with _processes(jobs) as counts:
        limit = time.monotonic() + LIMIT
        warm, begin, began = round(messages * WARM), 0, 0.0
        while (done := sum(count.value for count in counts)) < messages or not finished():
            if not began and done >= warm:
                begin, began = done, time.perf_counter()
            if time.monotonic() > limit:
                raise RuntimeError(f"void: {done} of {messages} after {LIMIT:g} s")
            time.sleep(0.002)
        return (messages - begin) / (time.perf_counter() - began)


@contextmanager
def _processes(jobs: list[tuple[Any, Any]]) -> Iterator[list[Any]]:
    context = multiprocessing.get_context("spawn")
    end, counts = context.Event(), [context.Value("q", 0) for _ in jobs]
    started = [
        context.Process(target=target, args=(job, count, end))
        for (target, job), count in zip(jobs, counts, strict=True)
    ]
    for each in started:
        each.start()
    try:
        yield counts
    finally:
        end.set()
        for each in started:
            each.join(40)
            each.kill()


def main() -> int:
    """Read the command line, run, and end the servers."""
    parser = argparse.ArgumentParser("python -m bench.many", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *ROWS], help="rows; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(bench(asked.only, asked.rounds))
    except Unavailable as fault:
        print(f"void: {fault}", file=sys.stderr)
        return 1
    finally:
        close()


if __name__ == "__main__":
    sys.exit(main())
