"""`ordered=True` with two workers on real Kafka and Postgres: retries, two SIGKILLs, a rebalance after each."""

from __future__ import annotations

import json
import random
import uuid
from collections import defaultdict
from pathlib import Path

import pytest

from tests.acceptance.shop import Shop, produce, rows, until
from tests.services import Kafka

LANES = 40
STEPS = 40
APP = "tests.acceptance.apps.lanes:app"


def steps() -> list[tuple[bytes, bytes]]:
    """All lanes' steps in turn: one in ten fails once or twice, one in ten is sent twice."""
    chance = random.Random(21)
    records = []
    for number in range(STEPS):
        for lane in range(LANES):
            name = f"acc-{lane}"
            fails = chance.choice((1, 2)) if chance.random() < 0.1 else 0
            step = {"id": f"{name}/{number}", "lane": name, "number": number, "fails": fails}
            record = name.encode(), json.dumps(step).encode()
            records += [record] * (2 if chance.random() < 0.1 else 1)
    return records


@pytest.mark.timeout(400)
async def test_every_lane_is_in_order_through_two_kills(
    kafka: Kafka, postgres_url: str, tmp_path: Path
) -> None:
    """Mutants: lane ignored by due; lane ignored by a claim; a landing that takes no lock of its lane."""
    run = uuid.uuid4().hex[:8]
    await kafka.create_topics({f"books.{run}": 6, f"letters.{run}": 6})
    shop = Shop(tmp_path, store=postgres_url, broker=f"kafka://{kafka.bootstrap}", app=APP)
    shop.environment["LANES_RUN"] = run
    try:
        shop.migrate()
        stream = steps()
        for topic in ("books", "letters"):
            await produce(kafka.bootstrap, f"{topic}.{run}", stream)

        async def done(at_least: int) -> bool:
            [row] = await rows(postgres_url, "select count(*) from consumer_inbox where state = 4")
            return bool(row[0] >= at_least)

        group = ("--group", f"lanes-{run}", "--worker-ttl", "3")
        first = shop.start(*group)
        second = shop.start(*group)
        await until(lambda: done(LANES * STEPS // 2), 90, lambda: f"a quarter\n{shop.logs()}")
        shop.kill(first)
        third = shop.start(*group)
        await until(lambda: done(LANES * STEPS), 90, lambda: f"half of it\n{shop.logs()}")
        shop.kill(second)
        fourth = shop.start(*group)
        await until(lambda: done(2 * LANES * STEPS), 150, lambda: f"all of it\n{shop.logs()}")
        assert shop.terminate(third) == 0, shop.logs()
        assert shop.terminate(fourth) == 0, shop.logs()

        books = defaultdict(list)
        for row in await rows(postgres_url, "select lane, number from steps order by seq"):
            books[row["lane"]].append(row["number"])
        in_order = {f"acc-{lane}": list(range(STEPS)) for lane in range(LANES)}
        assert books == in_order, "each step once, each lane in order"

        letters = defaultdict(list)
        tokens = defaultdict(list)
        for line in shop.lines():
            letters[line["lane"]].append(line["number"])
            tokens[line["lane"]].append(line["token"])
        assert {lane: list(dict.fromkeys(found)) for lane, found in letters.items()} == in_order
        # A killed worker's step is sent again by the next one: at least once, and by then nothing after it was sent.
        assert all(found == sorted(found) for found in letters.values())
        assert all(found == sorted(found) for found in tokens.values())
    finally:
        shop.close()
