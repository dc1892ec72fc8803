"""Webhooks that go to the broker, with a sink of the test's own: what is said, when, and what stays in the store."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from consumer import App, AtMostOnce, Key
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.http import Request
from consumer.message import Outgoing
from consumer.path.forward import Forwarder
from consumer.ports.tracing import Untraced
from consumer.ports.transport import HELD_BACK, Published
from consumer.settings import Secret
from consumer.webhooks import GitHub
from tests.http.shopkit import Site, code_of, migrated, serving

SECRET = "a-secret-of-ones-own"
PATH, TOPIC = "/hooks/github", "events"


class Event(Struct):
    id: str
    account: str


class Broker:
    """A sink that does what the test says."""

    def __init__(self) -> None:
        self.calls: list[list[Outgoing]] = []
        self.refuses: dict[bytes, str] = {}
        self.away = False
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        self.asked.set()
        await self.go.wait()
        if self.away:
            raise BrokerUnavailable("nobody listens")
        self.calls.append([outgoing for _, outgoing in messages])
        answers, held = [], set()
        for _, outgoing in messages:
            reason = next((why for part, why in self.refuses.items() if part in outgoing.value), None)
            if outgoing.ordering_key in held:
                reason = HELD_BACK
            elif reason is not None:
                held.add(outgoing.ordering_key)
            answers.append(Published(reason))
        return answers

    async def look(self, topics: Sequence[str]) -> None:
        if self.away:
            raise BrokerUnavailable(f"nobody listens to a question about {topics}")

    @property
    def taken(self) -> list[bytes]:
        return [outgoing.value for call in self.calls for outgoing in call]


def made() -> App:
    app = App("own")

    @app.on(
        TOPIC,
        key=Key.field("id"),
        mode=AtMostOnce(),
        tenant=Key.header("tenant"),
        ordered=Key.field("account"),
        same=("account",),
    )
    async def taken(event: Event) -> None:
        return None

    def translated(event: Event, request: Request) -> Event | None:
        return None if event.id == "ignored" else event

    app.webhook(
        PATH,
        GitHub(secret=Secret.env("OWN_SECRET")),
        topic=TOPIC,
        translate=translated,
        tenant=lambda request: request.headers.get("x-tenant", "public"),
    )
    return app


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broker: Broker) -> AsyncIterator[Site]:
    monkeypatch.setenv("OWN_SECRET", SECRET)
    app = made()
    async with serving(app, await migrated(app, f"sqlite:///{tmp_path}/own.db")) as site:
        site.running.desk._forwarder = Forwarder("own", broker, [TOPIC], broker.look, Untraced(), limit=5.0)
        yield site


async def hook(site: Site, ident: Any, account: Any = "a", **headers: str) -> httpx.Response:
    body = json.dumps({"id": ident, "account": account}).encode()
    signature = "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    pairs = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": "d", "X-GitHub-Event": "push"} | headers
    return await site.post(PATH, None, body, list(pairs.items()))


async def test_it_is_acknowledged_after_the_broker_has_and_not_before(site: Site, broker: Broker) -> None:
    """Mutant: 2xx before the acknowledgement."""
    broker.go.clear()
    reply = asyncio.create_task(hook(site, "e-1"))
    await broker.asked.wait()
    done, _ = await asyncio.wait({reply}, timeout=0.2)
    broker.go.set()
    assert not done
    assert (await reply).status_code == 200
    assert broker.taken == [b'{"id":"e-1","account":"a"}']
    assert await site.entries() == [], "the store holds nothing of it"
    assert site.running.desk.results["github", "forwarded"] == 1


async def test_what_is_published_has_all_that_the_consumer_needs(site: Site, broker: Broker) -> None:
    for tenant in ("acme", "acme", "other"):
        assert (await hook(site, "e-1", **{"X-Tenant": tenant})).status_code == 200
    [first], [again], [other] = broker.calls
    headers = dict(first.headers)
    assert (headers["tenant"], headers["message-source"]) == (b"acme", b"github")
    assert (first.topic, first.ordering_key) == (TOPIC, "a")
    assert again == first, "a second delivery of one event is one message, by its id"
    assert dict(other.headers)["tenant"] == b"other"


async def test_a_broker_that_does_not_take_it_is_503_and_nothing_is_said_that_is_not_so(
    site: Site, broker: Broker
) -> None:
    broker.away = True
    assert not await site.running.desk.answers()
    for _ in range(2):
        reply = await hook(site, "e-1")
        assert (reply.status_code, code_of(reply)) == (503, "broker-unavailable")
        assert reply.headers["retry-after"] == "2"
    assert (await hook(site, "ignored")).status_code == 200, "nothing of it goes anywhere"
    broker.away = False
    assert await site.running.desk.answers()
    assert (await hook(site, "e-1")).status_code == 200
    assert len(broker.taken) == 1
    assert await site.entries() == []


async def test_while_one_tries_a_broker_that_is_away_the_others_are_told_at_once(
    site: Site, broker: Broker
) -> None:
    broker.away = True
    assert (await hook(site, "e-1")).status_code == 503
    broker.go.clear()
    broker.asked.clear()
    trying = asyncio.create_task(hook(site, "e-1"))
    await broker.asked.wait()
    assert (await hook(site, "e-2")).status_code == 503
    assert not trying.done()
    broker.away = False
    broker.go.set()
    assert (await trying).status_code == 200


async def test_a_broker_that_says_nothing_is_503_within_the_limit(site: Site, broker: Broker) -> None:
    site.running.desk._forwarder._limit = 0.1
    broker.go.clear()
    reply = await hook(site, "e-1")
    assert (reply.status_code, code_of(reply)) == (503, "broker-unavailable")
    broker.go.set()


async def test_what_nobody_can_read_or_key_is_a_dead_letter_here(site: Site, broker: Broker) -> None:
    for ident, account in (("x" * 256, "a"), (1, "a"), ("e-1", None)):
        assert (await hook(site, ident, account)).status_code == 200
    assert [entry.state.word for entry in await site.entries()] == ["dead"] * 3
    assert broker.calls == []


async def test_what_the_broker_refuses_is_a_dead_letter_and_costs_nobody_else(
    site: Site, broker: Broker
) -> None:
    """Mutants: such a dead letter is not landed; what was held back behind it counts as taken."""
    broker.refuses = {b"large": "message too large"}
    broker.go.clear()
    first = asyncio.create_task(hook(site, "first"))
    await broker.asked.wait()
    tasks = [asyncio.create_task(hook(site, ident)) for ident in ("large", "e-1", "e-2")]
    async with asyncio.timeout(5):
        while site.running.desk._forwarder.waiting < 3:  # noqa: ASYNC110 - a queue tells nobody of its length
            await asyncio.sleep(0)
    broker.go.set()
    assert {(await task).status_code for task in (first, *tasks)} == {200}
    entries = await site.entries()
    assert [(entry.state.word, entry.reason) for entry in entries] == [("dead", "broker: message too large")]
    assert [len(call) for call in broker.calls] == [1, 3, 2], "shared calls; what was held back goes again"
    assert [outgoing.value.split(b'"')[3] for outgoing in broker.calls[-1]] == [b"e-1", b"e-2"]


async def test_without_a_broker_it_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_SECRET", SECRET)
    app = made()
    url = await migrated(app, f"sqlite:///{tmp_path}/own.db")
    with pytest.raises(SettingsError, match=r"webhooks_to = 'broker': .*set broker = 'kafka://host:port'"):
        async with serving(app, url, webhooks_to="broker"):
            pass


@pytest.mark.parametrize("verb", [["ingest", "--port", "0"], ["run", "--ingest", "127.0.0.1:0"]])
async def test_the_command_refuses_it_in_one_line(shop_url: str, verb: list[str]) -> None:
    arguments = [*verb, "handlers.app:app", "--store", shop_url, "--webhooks-to", "broker"]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "consumer", *arguments],
        env=os.environ | {"CONSUMER_BROKER": "embedded:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines()[-1] == (
        "error: webhooks_to = 'broker': broker = 'embedded:' is the store itself; "
        "set broker = 'kafka://host:port', or webhooks_to = 'store'"
    )
