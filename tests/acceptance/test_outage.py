"""Servers that go away under load and come back, and a worker that is stopped for longer than its time-to-live."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import Any

import pytest

from tests.acceptance.conftest import KAFKA, POSTGRES
from tests.acceptance.looks import come_to, payment, states
from tests.acceptance.shop import committed, produce, read_all, unchanging, until
from tests.acceptance.worlds import KafkaOnPostgres, World
from tests.services import Kafka, Postgres

pytestmark = pytest.mark.timeout(150)

TOPIC = "payments.requested"
MESSAGES = 4_000
AWAY = 4.0
"""Seconds of an outage: longer than the time-to-live of the workers here."""


async def count(world: World, sql: str) -> int:
    [(found,)] = await world.query(sql)
    return int(found)


async def under_load(world: KafkaOnPostgres) -> None:
    """Start a worker on a backlog, and return when it is at work."""
    stream = [payment(f"p-{i}", account=f"acc-{i % 50}") for i in range(MESSAGES)]
    records: list[tuple[bytes | None, bytes | None]] = [
        (p["account"].encode(), json.dumps(p).encode()) for p in stream
    ]
    await produce(world.bootstrap, TOPIC, records)
    world.shop.start("--worker-ttl", "3")

    async def busy() -> bool:
        return await count(world, "select count(*) from ledger") >= 200

    await until(busy, 40, lambda: f"200 payments\n{world.shop.logs()}")


async def the_books_are_right(world: KafkaOnPostgres) -> None:
    shop = world.shop

    async def settled() -> bool:
        # Waits for the tellings too: nothing is spent by an outage, so each is told or visibly in doubt.
        return (
            await count(world, "select count(*) from ledger") >= MESSAGES
            and len(await states(world, "payments.settled", "p-")) == MESSAGES
            and await count(world, "select count(*) from consumer_inbox where state not in (4, 5, 6)") == 0
            and await count(world, "select count(*) from consumer_outbox") == 0
        )

    await until(settled, 80, lambda: f"everything at rest\n{shop.logs()}")
    assert await count(world, "select count(*) from ledger") == MESSAGES
    assert await count(world, "select count(distinct payment_id) from ledger") == MESSAGES
    assert await count(world, "select count(*) from consumer_inbox where state = 6") == 0, "nothing is spent"
    told = Counter(line["key"] for line in shop.lines())
    assert max(told.values()) == 1, "nobody is told twice"
    doubted = {row["key"] for row in shop.listed("--state", "in_doubt")}
    assert {f"p-{i}" for i in range(MESSAGES)} - told.keys() <= doubted
    ids: dict[str, set[bytes]] = {}
    for record in await read_all(world.bootstrap, "payments.settled"):
        ids.setdefault(json.loads(record.value)["payment_id"], set()).add(dict(record.headers)["message-id"])
    assert len(ids) == MESSAGES
    assert all(len(each) == 1 for each in ids.values()), "a second publication has the same message-id"

    async def acked() -> bool:
        offsets = await committed(world.bootstrap, "shop")
        return sum(n for (topic, _), n in offsets.items() if topic == TOPIC) == MESSAGES

    await until(acked, 30, lambda: f"all is acknowledged\n{shop.logs()}")
    assert shop.workers[0].poll() is None, "one and the same worker, all the time"
    assert "Traceback" not in shop.log_of(shop.workers[0])
    assert shop.terminate(shop.workers[0]) == 0, shop.logs()


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_postgres_goes_away_under_load(empty_world: World, postgres: Postgres) -> None:
    """Mutants: ack what could not be settled; count an outage as an attempt."""
    world = empty_world
    assert isinstance(world, KafkaOnPostgres)
    await under_load(world)
    await asyncio.to_thread(postgres.stop)
    world.shop.await_log("does not answer", world.shop.workers[0])
    before = await unchanging(lambda: committed(world.bootstrap, "shop"))
    await asyncio.sleep(AWAY)  # the outage's own length
    assert await committed(world.bootstrap, "shop") == before, "nothing is acknowledged meanwhile"
    assert world.shop.workers[0].poll() is None
    await asyncio.to_thread(postgres.start)
    done = await count(world, "select count(*) from ledger")
    assert done < MESSAGES, "the test meant to interrupt it"
    await the_books_are_right(world)


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_kafka_goes_away_under_load(empty_world: World, kafka: Kafka) -> None:
    world = empty_world
    assert isinstance(world, KafkaOnPostgres)
    await under_load(world)
    await asyncio.to_thread(kafka.stop)
    await asyncio.sleep(AWAY)  # the outage's own length
    assert world.shop.workers[0].poll() is None, world.shop.logs()
    await asyncio.to_thread(kafka.start)
    await the_books_are_right(world)


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_both_go_away_and_come_back_one_after_the_other(
    empty_world: World, kafka: Kafka, postgres: Postgres
) -> None:
    world = empty_world
    assert isinstance(world, KafkaOnPostgres)
    await under_load(world)
    await asyncio.to_thread(postgres.kill)
    await asyncio.to_thread(kafka.kill)
    await asyncio.sleep(AWAY)  # the outage's own length
    assert world.shop.workers[0].poll() is None, world.shop.logs()
    await asyncio.to_thread(kafka.start)
    await asyncio.to_thread(postgres.start)
    await the_books_are_right(world)


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_sigterm_while_the_store_is_away(empty_world: World, postgres: Postgres) -> None:
    shop = empty_world.shop
    await empty_world.send(TOPIC, [payment("first")])
    worker = shop.start("--grace", "2")
    await come_to(empty_world, "payments.settled", "first", "done")
    await asyncio.to_thread(postgres.stop)
    shop.await_log("does not answer", worker)
    assert shop.terminate(worker, 25) == 0, shop.logs()
    await asyncio.to_thread(postgres.start)


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_a_worker_that_was_stopped_beyond_its_time_to_live(empty_world: World) -> None:
    """Its claims are adopted; continued, it opens a new worker and goes on. Mutant: a beat revives a closed worker."""
    world, shop = empty_world, empty_world.shop
    hanging = [{"notification_id": f"n-{i}", "to": "x", "text": "unknown"} for i in range(8)]
    await world.send("notifications.send", hanging)
    stopped = shop.start("--worker-ttl", "2")

    async def begun() -> bool:
        return len(shop.lines()) == 8

    await until(begun, 20, lambda: f"8 handlers hang\n{shop.logs()}")
    stopped.send_signal(signal.SIGSTOP)
    try:
        other = shop.start()  # one that hardly lapses itself
        await come_to(world, "notifications.send", "n-", *["in_doubt"] * 8)
        await world.send(TOPIC, [payment(f"p-{i}") for i in range(500)])
        await come_to(world, "payments.settled", "p-", *["done"] * 500, seconds=40)
    finally:
        stopped.send_signal(signal.SIGCONT)
    shop.await_log("goes on as worker", stopped)
    assert shop.terminate(other) == 0, shop.logs()

    await world.send(TOPIC, [payment(f"q-{i}") for i in range(100)])
    await come_to(world, "payments.settled", "q-", *["done"] * 100, seconds=40)
    assert {line["pid"] for line in shop.lines() if line["key"].startswith("q-")} == {stopped.pid}
    told: Counter[Any] = Counter((line["kind"], line["key"]) for line in shop.lines())
    assert len(told) == 8 + 500 + 100
    assert max(told.values()) == 1, "no double effects"
    assert await count(world, "select count(*) from ledger") == 600
    assert await states(world, "notifications.send", "n-") == ["in_doubt"] * 8
