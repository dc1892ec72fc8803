"""`make rollout`: 100,000 messages on Kafka and Postgres while 1 worker becomes 4, each is replaced, and 1 is left.

make rollout ARGS="--messages 20000 --rate 300 --chart docs/rollout.svg"
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.rollout.campaign import Flow, rollout
from tests.rollout.chart import chart
from tests.services import Kafka, Postgres, close
from tests.storm.places import OnPostgres

__all__ = ["main"]


def main() -> int:
    """Run it; return 0 when every promise was kept."""
    usual = Flow()
    parser = argparse.ArgumentParser(
        prog="make rollout", description="Grow, replace and shrink; print the books."
    )
    parser.add_argument("--messages", type=int, default=usual.messages)
    parser.add_argument("--rate", type=float, default=usual.rate, help="messages sent a second")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--chart", type=Path, help="write an SVG here")
    asked = parser.parse_args()
    flow = Flow(asked.messages, asked.rate, seed=asked.seed)
    try:
        return asyncio.run(_run(flow, asked.chart))
    finally:
        close()


async def _run(flow: Flow, where: Path | None) -> int:
    kafka = await asyncio.to_thread(Kafka.shared)
    postgres = await asyncio.to_thread(Postgres.shared)
    url = await postgres.fresh_database()
    print(flow, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="rollout-") as folder:
            place = OnPostgres(Path(folder), url, kafka.bootstrap)
            seen = await rollout(flow, place, kafka, lambda line: print(line, flush=True))
    finally:
        await postgres.drop_database(url)
    if where is not None:
        await asyncio.to_thread(where.write_text, chart(seen), "utf-8")
    print(seen, flush=True)
    return 1 if seen.books.wrong or seen.books.untold else 0


if __name__ == "__main__":
    sys.exit(main())
