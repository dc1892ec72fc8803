"""`python -m bench.web`: requests a second beside servers written by hand, interleaved rounds, medians, one table."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.table import Table

from bench.machine import described
from bench.web.sites import BROKER, SCHEMA, TOPIC, ours_app
from consumer.stores import open_store
from tests.services import Kafka, Postgres, Unavailable, close


class Row(NamedTuple):
    """A line of the table: who serves, what is sent, and with whom it is compared.

    Attributes:
        title: for people.
        site: of `SITES`.
        kind: of requests.
        beside: the name of the row that its ratio is taken to.
        rows: which table must hold a row per request; none for who writes no row.
    """

    title: str
    site: str
    kind: str
    beside: str
    rows: str = ""


ROWS = {
    "noop": Row("the limit: an ASGI application that does nothing", "noop", "new", "noop"),
    "naive": Row("naive: a row and a commit per request, no keys", "naive", "new", "naive", "ledger"),
    "new": Row("ours: new keys", "ours", "new", "naive", "ledger"),
    "replays": Row("ours: replays", "ours", "new", "noop", "ledger"),
    "hooks": Row("ours: webhooks landed", "ours", "hook", "naive", "consumer_inbox"),
    "forwards": Row("ours: webhooks on their topic (acks=all)", "forward", "hook", "naive"),
}


class Void(Exception):
    """A run whose result is wrong."""


async def bench(arguments: argparse.Namespace) -> None:
    """Run the rounds and print the table."""
    postgres = Postgres.shared()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    for number in range(1, arguments.rounds + 1):
        for name, row in ROWS.items():
            measured = await _run(postgres, name, row, arguments)
            found[name].append(measured)
            rate = arguments.requests / measured["seconds"]
            print(f"round {number}  {name:8} {rate:8,.0f}/s", file=sys.stderr)
    _table(found, arguments)
    Console(width=120).print(await described(postgres, Kafka.shared()), highlight=False, soft_wrap=True)


async def _run(postgres: Postgres, name: str, row: Row, arguments: argparse.Namespace) -> dict[str, float]:
    store = await postgres.fresh_database()
    kafka = Kafka.shared()
    topic = await kafka.fresh_topic(3) if row.site == "forward" else "payments"
    os.environ |= {BROKER: f"kafka://{kafka.bootstrap}", TOPIC: topic}
    try:
        await _migrate(row, store)
        site = await _process("bench.web.site", row.site, store)
        assert site.stdout is not None
        port = (await site.stdout.readline()).decode().strip()
        load = (port, row.kind, str(arguments.requests), str(arguments.connections))
        await _load(port, row.kind, "500", "8", "90000000", name="warm")
        if name == "replays":
            await _load(*load, "0", name="new")
        before = _cpu(site.pid)
        measured: dict[str, float] = await _load(*load, "0", name=name)
        measured["cpu"] = (_cpu(site.pid) - before) / arguments.requests
        await site.communicate(b"")
        if row.rows:
            await _check(store, row, arguments.requests + 500)
        if row.site == "forward" and (held := await _records(kafka, topic)) != arguments.requests + 500:
            raise Void(f"{row.title}: {held} records, not {arguments.requests + 500}")
        return measured
    finally:
        await postgres.drop_database(store)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has spent: a figure that others on the machine move less than any rate."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _migrate(row: Row, store: str) -> None:
    if row.site in {"ours", "forward"}:
        opened = open_store(store, "bench")
        await opened.migrate(ours_app().own_schema("postgres"))
        await opened.close()
        return
    connection = await asyncpg.connect(store)
    await connection.execute(SCHEMA)
    await connection.close()


async def _check(store: str, row: Row, expected: int) -> None:
    connection = await asyncpg.connect(store)
    try:
        found = await connection.fetchval(f"select count(*) from {row.rows}")
    finally:
        await connection.close()
    if found != expected:
        raise Void(f"{row.title}: {found} rows, not {expected}")


async def _records(kafka: Kafka, topic: str) -> int:
    """How many records a topic holds."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(list(consumer.assignment()))).values())
    finally:
        await consumer.stop()


async def _load(*given: str, name: str) -> Any:
    client = await _process("bench.web.client", *given, name)
    output, _ = await client.communicate()
    if client.returncode != 0:
        raise Void(f"{name}: the client has failed")
    return json.loads(output)


async def _process(module: str, *given: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *given, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


def _table(found: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    rates = {n: statistics.median(arguments.requests / m["seconds"] for m in ms) for n, ms in found.items()}
    title = f"{arguments.connections} connections, medians of {arguments.rounds} interleaved runs"
    shown = Table(title=title, title_justify="left")
    shown.add_column("who")
    for column in ("requests/s", "slowest - fastest", "ratio", "p50, ms", "p99, ms", "server CPU, µs"):
        shown.add_column(column, justify="right")
    for name, row in ROWS.items():
        single = [arguments.requests / measured["seconds"] for measured in found[name]]
        ratio = "1" if row.beside == name else f"{rates[name] / rates[row.beside]:.2f} of {row.beside}"
        p50, p99 = (
            statistics.median(measured[which] for measured in found[name]) * 1000 for which in ("p50", "p99")
        )
        cpu = statistics.median(measured["cpu"] for measured in found[name]) * 1e6
        spread = f"{min(single):,.0f} - {max(single):,.0f}"
        shown.add_row(
            row.title, f"{rates[name]:,.0f}", spread, ratio, f"{p50:.1f}", f"{p99:.1f}", f"{cpu:.0f}"
        )
    Console(width=None if Console().is_terminal else 120).print(shown)


def main() -> int:
    """Read the command line, run, and end the servers."""
    parser = argparse.ArgumentParser("python -m bench.web", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown")
    parser.add_argument("--requests", type=int, default=6_000, help="of each run")
    parser.add_argument("--connections", type=int, default=64, help="at once")
    try:
        asyncio.run(bench(parser.parse_args()))
    except (Void, Unavailable) as fault:
        print(f"void: {fault}", file=sys.stderr)
        return 1
    finally:
        close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
