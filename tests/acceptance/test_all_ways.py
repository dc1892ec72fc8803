"""One payment by every way in at once: HTTP, both webhooks and a topic, fifty times each, into processes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import httpx
import pytest

from tests.acceptance.conftest import KAFKA, POSTGRES, SQLITE
from tests.acceptance.ingesting import Ingest
from tests.acceptance.shop import committed, read_all, until
from tests.acceptance.worlds import KafkaOnPostgres, World
from tests.http.shopkit import PAYMENT
from tests.http.signing import as_bytes, intent, requested, standard, stripe_signed, svix_signed

pytestmark = pytest.mark.timeout(150)

TIMES = 50
KEYS = ("p-1", "p-2", "p-3")
COME_AGAIN = {(409, "in-progress"), (503, "overloaded"), (503, "store-unavailable")}
"""The last: on a busy machine a call may wait for the store for longer than a caller is kept."""


async def by_http(client: httpx.AsyncClient, key: str) -> httpx.Response:
    """Come again as one is told to, until there is a result."""
    while True:
        reply = await client.post("/payments", json=PAYMENT, headers={"Idempotency-Key": key})
        if reply.status_code == 201:
            return reply
        assert (reply.status_code, reply.json()["code"]) in COME_AGAIN
        await asyncio.sleep(float(reply.headers["retry-after"]))


async def by_hook(client: httpx.AsyncClient, path: str, key: str, number: int) -> None:
    """Come again as a provider does, until it is acknowledged."""
    body = as_bytes(intent(key, f"evt_{number}") if path == "/hooks/stripe" else requested(key))
    while True:
        if path == "/hooks/stripe":
            headers = stripe_signed(body)
        else:
            headers = (standard if number % 2 else svix_signed)(body, event=f"msg_{number}")
        reply = await client.post(path, content=body, headers=headers)
        if reply.status_code == 200:
            return
        assert reply.status_code == 503, reply.text
        await asyncio.sleep(float(reply.headers["retry-after"]))


async def by_topic(world: World) -> None:
    values = [{"payment_id": key, **PAYMENT} for key in KEYS for _ in range(TIMES)]
    if isinstance(world, KafkaOnPostgres):
        await world.send("payments.requested", values)
    else:  # a command, which blocks
        await asyncio.to_thread(world.shop.publish, "payments.requested", values)


async def acknowledged(world: KafkaOnPostgres) -> int:
    """How many records of the topic the worker has put behind it."""
    offsets = await committed(world.bootstrap, "shop")
    return sum(offset for (topic, _), offset in offsets.items() if topic == "payments.requested")


async def by_everything(world: World, client: httpx.AsyncClient) -> dict[str, list[httpx.Response]]:
    async with asyncio.TaskGroup() as all_:
        posts = {key: [all_.create_task(by_http(client, key)) for _ in range(TIMES)] for key in KEYS}
        for key in KEYS:
            for number in range(TIMES):
                all_.create_task(by_hook(client, "/hooks/stripe", key, number))
                all_.create_task(by_hook(client, "/hooks/standard", key, number))
        all_.create_task(by_topic(world))
    return {key: [task.result() for task in tasks] for key, tasks in posts.items()}


@pytest.mark.parametrize(
    ("empty_world", "webhooks_to"),
    [(SQLITE, "store"), (POSTGRES, "store"), (KAFKA, "store"), (KAFKA, "broker")],
    indirect=["empty_world"],
)
async def test_fifty_times_by_every_way_at_once_are_one_row_and_one_settlement(
    empty_world: World, webhooks_to: str
) -> None:
    world, shop = empty_world, empty_world.shop
    shop.start("--worker-ttl", "5")
    with Ingest(shop, "--port", "0", "--worker-ttl", "5", "--webhooks-to", webhooks_to) as ingest:
        ingest.await_ready()
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ingest.port}", timeout=60, limits=limits
        ) as client:
            told = await by_everything(world, client)
            for key, replies in told.items():
                [content] = {reply.content for reply in replies}
                assert json.loads(content) == {"payment_id": key, "status": "settled", **PAYMENT}
                assert sum("idempotent-replayed" not in reply.headers for reply in replies) <= 1

        # By the topic itself, and by the two webhooks; a sender that is refused once and comes again adds one.
        records = len(KEYS) * TIMES * (3 if webhooks_to == "broker" else 1)

        async def at_rest() -> bool:
            [(moving,)] = await world.query(
                "select count(*) from consumer_inbox where state not in (4, 5, 6)"
            )
            [(outgoing,)] = await world.query("select count(*) from consumer_outbox")
            if isinstance(world, KafkaOnPostgres) and await acknowledged(world) < records:
                return False
            return moving == outgoing == 0 and len(shop.lines()) >= len(KEYS)

        await until(at_rest, 60, lambda: f"everything at rest\n{shop.logs()}\n{ingest.log}")
        rows = await world.query("select payment_id, tenant, amount, source from ledger")
        assert sorted(row[:3] for row in rows) == [(key, "public", 500) for key in KEYS]
        assert {row[3] for row in rows} <= {"http", "stripe", "standard", world.source}
        told_of = Counter(line["key"] for line in shop.lines())
        assert told_of == Counter(KEYS)
        entries = await world.query(
            "select handler, state, count(*) from consumer_inbox group by handler, state"
        )
        assert sorted(entries) == [("payments.requested", 4, len(KEYS)), ("payments.settled", 4, len(KEYS))]
        if isinstance(world, KafkaOnPostgres):
            settled = [
                json.loads(r.value)["payment_id"] for r in await read_all(world.bootstrap, "payments.settled")
            ]
            assert sorted(settled) == list(KEYS)
        assert ingest.terminate() == 0, ingest.log
    assert shop.terminate(shop.workers[0]) == 0, shop.logs()
