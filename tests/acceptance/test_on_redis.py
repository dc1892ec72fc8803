"""`handlers.notify:app` on Kafka and Redis: what hostile producers send, and a store that goes away under load."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.acceptance.looks import payment
from tests.acceptance.shop import Shop, committed, fresh_shop_topics, produce, unchanging, until
from tests.acceptance.test_bad_input import GOOD_KEYS, NOT_A_PAYMENT, bytes_of
from tests.integration.rediskit import Server
from tests.services import Kafka

TOPIC = "payments.settled"
GROUP = "notify"
MESSAGES = 4_000
AWAY = 4.0
"""Seconds of an outage: longer than the time-to-live of the worker here."""

Record = tuple[bytes | None, bytes | None]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.close()


@pytest.fixture
async def shop(server: Server, kafka: Kafka, tmp_path: Path) -> Shop:
    await fresh_shop_topics(kafka, partitions=3)
    made = Shop(tmp_path, store=server.url, broker=f"kafka://{kafka.bootstrap}", app="handlers.notify:app")
    made.migrate()
    return made


@pytest.fixture(autouse=True)
def closed(shop: Shop) -> Iterator[None]:
    yield
    shop.close()


def settled(key: str) -> bytes:
    return json.dumps(payment(key, settled_at="now")).encode()


def also_settled(value: bytes | None) -> bytes | None:
    """A bad payment as a bad settlement: bad for its own reason, and not because a field is missing."""
    return value and value.replace(b'"currency"', b'"settled_at":"now","currency"')


async def acknowledged(kafka: Kafka) -> int:
    try:
        offsets = await committed(kafka.bootstrap, GROUP)
    except GroupCoordinatorNotAvailableError:  # a young broker, that has had no group yet
        return 0
    return sum(offset for (topic, _), offset in offsets.items() if topic == TOPIC)


@pytest.mark.timeout(90)
async def test_bad_input_is_a_dead_letter_each_and_holds_up_nobody(shop: Shop, kafka: Kafka) -> None:
    """Mutants: ack without an entry; a dead letter without its bytes."""
    bad = {name: also_settled(value) for name, value in NOT_A_PAYMENT.items()}
    records: list[Record] = [(b"\xff\x00key", settled("first"))]
    for i, value in enumerate(bad.values()):
        records += [(b"same", value), (b"same", settled(f"between-{i}"))]
    records += [(None, settled(key)) for key in GOOD_KEYS]
    placed = await produce(kafka.bootstrap, TOPIC, records, partition=0)
    positions = {
        f"{TOPIC}/0/{meta.offset}": item
        for meta, item in zip(placed[1 : 1 + 2 * len(bad) : 2], bad.items(), strict=True)
    }
    worker = shop.start()

    async def passed() -> bool:
        return await acknowledged(kafka) == len(records)

    await until(passed, 40, lambda: f"everything is acknowledged\n{shop.logs()}")
    dead = {row["key"]: row for row in shop.listed("--state", "dead")}
    assert dead.keys() == positions.keys(), "each has an entry under topic/partition/offset"
    for position, (name, _) in positions.items():
        row = dead[position]
        assert 0 < len(row["reason"]) < 300, name
        assert row["reason"].isprintable(), name
        assert row["has_bytes"], name
    for name in ("tombstone", "empty", "not UTF-8", "5 MiB", "zeros"):
        position = next(place for place, (each, _) in positions.items() if each == name)
        assert bytes_of(shop.shown(position)) == bad[name], name
    told = Counter(line["key"] for line in shop.lines())
    assert told == Counter(["first", *(f"between-{i}" for i in range(len(bad))), *GOOD_KEYS])
    assert worker.poll() is None
    assert "Traceback" not in shop.logs()


@pytest.mark.timeout(150)
async def test_redis_goes_away_under_load(shop: Shop, server: Server, kafka: Kafka) -> None:
    """Nothing starts, nothing is acknowledged, nothing is spent; the same worker goes on by itself.

    Mutants: ack what could not be settled; count an outage as an attempt.
    """
    keys = [f"p-{i}" for i in range(MESSAGES)]
    await produce(kafka.bootstrap, TOPIC, [(key[-2:].encode(), settled(key)) for key in keys])
    worker = shop.start("--worker-ttl", "3")

    async def busy() -> bool:
        return len(shop.lines()) >= 200

    await until(busy, 40, lambda: f"200 were told\n{shop.logs()}")
    await asyncio.to_thread(server.stop)
    shop.await_log("Redis", worker)
    before = await unchanging(lambda: acknowledged(kafka))
    told = len(shop.lines())
    await asyncio.sleep(AWAY)  # the outage's own length
    assert await acknowledged(kafka) == before, "nothing is acknowledged meanwhile"
    assert len(shop.lines()) == told < MESSAGES, "nothing starts meanwhile"
    assert worker.poll() is None
    await asyncio.to_thread(server.start)

    async def everything() -> bool:
        return await acknowledged(kafka) == MESSAGES

    await until(everything, 60, lambda: f"everything is acknowledged\n{shop.logs()}")
    counts = Counter(line["key"] for line in shop.lines())
    assert max(counts.values()) == 1, "nobody is told twice"
    rows = shop.listed()
    assert len(rows) == MESSAGES
    doubted = {row["key"] for row in rows if row["state"] == "in_doubt"}
    assert {row["state"] for row in rows} <= {"done", "in_doubt"}, "nothing is spent"
    assert set(keys) - counts.keys() <= doubted
    assert len(doubted) <= 64, "no more than the slots"
    assert "Traceback" not in shop.log_of(worker)
    assert shop.terminate(worker) == 0, shop.logs()
