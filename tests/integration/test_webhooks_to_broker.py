"""Webhooks on Kafka and entries in Postgres: the key is the same as in the store, and a 2xx is durable on the topic."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from msgspec import Struct

from consumer import App, Context, Key, Transactional, Tx
from consumer.errors import SettingsError
from consumer.settings import Secret
from consumer.webhooks import GitHub
from tests.acceptance.shop import read_all
from tests.http.shopkit import Site, code_of, migrated, serving, until
from tests.services import Kafka

pytestmark = pytest.mark.timeout(120)

SECRET = "a-secret-of-ones-own"
PATH = "/hooks/github"


class Event(Struct):
    id: str
    amount: int


class Shop:
    """An app with a topic of its own, so that tests share a broker."""

    def __init__(self, url: str, kafka: Kafka) -> None:
        name = f"hooks-{uuid.uuid4().hex[:8]}"
        self.app, self.topic, self.url, self.kafka = App(name), f"{name}.events", url, kafka
        self.app.schema(postgres=["create table if not exists effects (id text, amount int, source text)"])

        @self.app.on(self.topic, key=Key.field("id"), mode=Transactional(), same=("amount",))
        async def taken(event: Event, ctx: Context, tx: Tx) -> None:
            await tx.execute(
                "insert into effects values ($1, $2, $3)", event.id, event.amount, ctx.message.source
            )

        self.app.webhook(PATH, GitHub(secret=Secret.env("OWN_SECRET")), topic=self.topic)

    @asynccontextmanager
    async def serving(self, to: str, *, consume: bool = False) -> AsyncIterator[Site]:
        broker = f"kafka://{self.kafka.bootstrap}"
        async with serving(self.app, self.url, consume=consume, broker=broker, webhooks_to=to) as site:
            yield site


@pytest.fixture
async def shop(postgres_url: str, kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("OWN_SECRET", SECRET)
    made = Shop(postgres_url, kafka)
    await kafka.create_topics({made.topic: 3})
    await migrated(made.app, postgres_url)
    return made


async def hook(site: Site, ident: str, amount: Any = 1) -> httpx.Response:
    body = json.dumps({"id": ident, "amount": amount}).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "d", "X-GitHub-Event": "push"}
    return await site.post(PATH, None, body, list(headers.items()))


async def states(site: Site) -> list[str]:
    return sorted(entry.state.word for entry in await site.entries())


async def test_what_is_acknowledged_is_on_the_topic(shop: Shop) -> None:
    async with shop.serving("broker") as site:
        assert await site.service.ready()
        replies = await asyncio.gather(*(hook(site, f"e-{number}") for number in range(50)))
        assert {reply.status_code for reply in replies} == {200}
        records = await read_all(shop.kafka.bootstrap, shop.topic)
        assert sorted(json.loads(record.value)["id"] for record in records) == sorted(
            f"e-{number}" for number in range(50)
        )
        assert {dict(record.headers)["message-source"] for record in records} == {b"github"}
        assert await site.entries() == []


async def test_the_same_events_landed_and_forwarded_fifty_times_at_once_are_one_row_each(shop: Shop) -> None:
    """One key, whichever way: what lands in the store and what comes by the topic meet at one entry."""
    async with shop.serving("store", consume=True) as landing, shop.serving("broker") as forwarding:
        sites = [landing, forwarding] * 50
        replies = await asyncio.gather(*(hook(site, f"e-{key}") for site in sites for key in range(3)))
        assert {reply.status_code for reply in replies} == {200}
        assert forwarding.running.desk.results["github", "forwarded"] == 150
        assert (await hook(forwarding, "last")).status_code == 200

        async def settled() -> bool:
            return await states(landing) == ["done"] * 4

        await until(settled, "every key is done")
        rows = await landing.running.fetch("select id, count(*) from effects group by id order by id")
        assert [tuple(row) for row in rows] == [("e-0", 1), ("e-1", 1), ("e-2", 1), ("last", 1)]


async def test_an_id_with_another_payload_is_a_dead_letter_at_the_consumer(shop: Shop) -> None:
    async with shop.serving("broker", consume=True) as site:
        for amount in (1, 1, 2):
            assert (await hook(site, "e-1", amount)).status_code == 200

        async def found() -> bool:
            return await states(site) == ["dead", "done"]

        await until(found, "the conflict is a dead letter beside the entry")
        assert await site.rows("effects") == 1


async def test_what_cannot_be_decoded_stays_in_the_store(shop: Shop) -> None:
    async with shop.serving("broker") as site:
        assert (await hook(site, "e-1", "much")).status_code == 200
        assert await states(site) == ["dead"]
        assert await read_all(shop.kafka.bootstrap, shop.topic) == []


async def test_a_topic_that_does_not_exist_is_said_at_start(shop: Shop) -> None:
    absent = Shop(shop.url, shop.kafka)
    with pytest.raises(SettingsError, match="does not exist. Create it with"):
        async with absent.serving("broker"):
            pass


async def test_a_broker_that_goes_away_is_503_and_the_retry_gets_through_once(shop: Shop) -> None:
    async with shop.serving("broker") as site:
        assert (await hook(site, "e-1")).status_code == 200
        await asyncio.to_thread(shop.kafka.stop)
        reply = await hook(site, "e-2")
        assert (reply.status_code, code_of(reply)) == (503, "broker-unavailable")
        assert not await site.running.desk.answers()
        await asyncio.to_thread(shop.kafka.start)

        async def taken() -> bool:
            return (await hook(site, "e-2")).status_code == 200

        await until(taken, "the sender's retry gets through")
    async with shop.serving("broker", consume=True) as site:

        async def done() -> bool:
            return await states(site) == ["done", "done"]

        await until(done, "both events are done")
        assert await site.rows("effects") == 2
