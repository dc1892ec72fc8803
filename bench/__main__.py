"""`python -m bench`: interleaved rounds, medians, one table."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys

import asyncpg
import msgspec

from bench.contestants import CONTESTANTS, Contestant
from bench.load import PARTITIONS, Load, preload
from bench.machine import described
from bench.meter import Measured
from bench.report import Line, table
from tests.services import Kafka, Postgres, Unavailable, close


class Void(Exception):
    """A run whose result is wrong."""


async def bench(arguments: argparse.Namespace) -> int:
    """Run everything that `arguments` ask for."""
    postgres, kafka = Postgres.shared(), Kafka.shared()
    chosen = _chosen(arguments.only)
    loads: dict[int, Load] = {}
    for count in sorted({round(each.messages * arguments.scale) for each in chosen}):
        topic = await kafka.fresh_topic(PARTITIONS)
        loads[count] = await preload(kafka.bootstrap, topic, count, arguments.duplicates)
    if arguments.profile:
        for each in chosen:
            print(await _child(each, loads[round(each.messages * arguments.scale)], arguments.profile))
        return 0
    runs: dict[str, list[tuple[Load, Measured]]] = {each.name: [] for each in chosen}
    for number in range(1, arguments.rounds + 1):
        for each in chosen:
            load = loads[round(each.messages * arguments.scale)]
            measured = msgspec.json.decode((await _child(each, load)).splitlines()[-1], type=Measured)
            _check_started(each, load, measured)
            runs[each.name].append((load, measured))
            rate = load.messages / measured.seconds
            print(f"round {number}  {each.name:8} {rate:8,.0f}/s", file=sys.stderr)
    rates = {n: statistics.median(load.messages / m.seconds for load, m in rs) for n, rs in runs.items()}
    lines = [_line(each, runs[each.name], rates) for each in chosen]
    table(lines, await described(postgres, kafka), arguments.rounds, arguments.duplicates)
    return 0


def _chosen(only: list[str]) -> list[Contestant]:
    names = set(only) or set(CONTESTANTS)
    beside = {CONTESTANTS[name].beside for name in names}
    return [each for each in CONTESTANTS.values() if each.name in names | beside]


def _line(each: Contestant, runs: list[tuple[Load, Measured]], rates: dict[str, float]) -> Line:
    return Line(
        each.title,
        rates[each.name],
        rates[each.name] / rates[each.beside],
        "" if each.beside == each.name else each.beside,
        statistics.median(measured.cpu / load.messages * 1e6 for load, measured in runs),
        min(load.messages / measured.seconds for load, measured in runs),
        max(load.messages / measured.seconds for load, measured in runs),
    )


async def _child(each: Contestant, load: Load, profile: str = "") -> str:
    """Run a contestant in a process of its own, on a fresh database, and check what it has made there."""
    postgres, kafka = Postgres.shared(), Kafka.shared()
    store = await postgres.fresh_database()
    try:
        connection = await asyncpg.connect(store)
        try:
            if each.schema:
                await connection.execute(each.schema)
            await connection.execute("checkpoint")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.child", each.name),
                *(store, kafka.bootstrap, load.topic, str(load.messages), *([profile] if profile else [])),
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": "0"},  # record keys meet in the same lanes in every run
            )
            output, _ = await process.communicate()
            if process.returncode != 0:
                raise Void(f"{each.name}: exit code {process.returncode}")
            for check in each.checks:
                found = await connection.fetchval(check)
                if found != load.unique:
                    raise Void(f"{each.name}: {check}: {found}, but {load.unique} different keys were sent")
        finally:
            await connection.close()
    finally:
        await postgres.drop_database(store)
    return output.decode()


def _check_started(each: Contestant, load: Load, measured: Measured) -> None:
    if measured.started not in {-1, load.unique}:
        raise Void(f"{each.name}: {measured.started} handlers ran for {load.unique} different keys")


def main() -> int:
    """Read the command line, run, and end the servers."""
    parser = argparse.ArgumentParser(
        "python -m bench", description="This package beside loops written by hand."
    )
    parser.add_argument("only", nargs="*", choices=[[], *CONTESTANTS], help="contestants; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; medians are shown")
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer messages")
    parser.add_argument("--duplicates", type=float, default=0.2, help="share of duplicates, 0 to 1")
    parser.add_argument(
        "--profile", choices=["tottime", "cumulative"], help="print a profile, measure nothing"
    )
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # a broker that has just begun is asked once more
    try:
        return asyncio.run(bench(parser.parse_args()))
    except (Void, Unavailable) as fault:
        print(f"void: {fault}", file=sys.stderr)
        return 1
    finally:
        close()


if __name__ == "__main__":
    sys.exit(main())
