"""`make storm`: 100,000 messages, four workers, five minutes of trouble; then the books.

make storm                                    on Kafka and Postgres, then on Kafka and Redis
make storm ARGS="--store redis --minutes 2 --messages 20000 --seed 7"
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.integration.rediskit import Server
from tests.services import Kafka, Postgres, close
from tests.storm.campaign import storm
from tests.storm.places import OnPostgres, OnRedis, Place
from tests.storm.plan import Plan
from tests.storm.weather import Restartable

__all__ = ["main"]


def main() -> int:
    """Run the storms that were asked for; return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="make storm", description="Hurt workers and servers; print the books."
    )
    parser.add_argument("--store", choices=["postgres", "redis", "both"], default="both")
    parser.add_argument("--minutes", type=float, default=5.0, help="of sending and of trouble")
    parser.add_argument("--messages", type=int, default=100_000, help="duplicates included")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="a new folder that keeps the workers' logs")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # our own client says at length that the broker is away
    plan = Plan(seed=asked.seed, seconds=asked.minutes * 60, messages=asked.messages)
    stores = ["postgres", "redis"] if asked.store == "both" else [asked.store]
    try:
        return max(asyncio.run(_one(store, plan, asked.logs)) for store in stores)
    finally:
        close()


async def _one(store: str, plan: Plan, logs: Path | None) -> int:
    kafka = await asyncio.to_thread(Kafka.shared)
    began = time.monotonic()
    print(f"Kafka and {store}: {plan}", flush=True)
    with tempfile.TemporaryDirectory(prefix="storm-") as temporary:
        folder = (logs or Path(temporary)) / store
        folder.mkdir(parents=True)
        async with _place(store, folder, kafka.bootstrap) as (place, database):
            found = await storm(plan, place, kafka, database, lambda line: print(line, flush=True))
    print(f"{found}\n{time.monotonic() - began:.0f} s in all\n", flush=True)
    return 1 if found.wrong else 0


@contextlib.asynccontextmanager
async def _place(store: str, folder: Path, bootstrap: str) -> AsyncIterator[tuple[Place, Restartable]]:
    if store == "postgres":
        postgres = await asyncio.to_thread(Postgres.shared)
        url = await postgres.fresh_database()
        yield OnPostgres(folder, url, bootstrap), postgres
        await postgres.drop_database(url)
        return
    redis = Server()
    redis.start()
    try:
        yield OnRedis(folder, redis.url, bootstrap), redis
    finally:
        redis.close()


if __name__ == "__main__":
    sys.exit(main())
