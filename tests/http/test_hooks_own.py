"""Webhooks of an application of one's own: ids that are not signed, handshakes, several subscribers, faults of its code."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import slack_sdk.signature
from msgspec import Struct

from consumer import App, AtMostOnce, Key, Reject
from consumer.errors import StoreUnavailable
from consumer.http import Request
from consumer.settings import Secret
from consumer.webhooks import CloudEvents, GitHub, Slack
from tests.http.shopkit import Site, code_of, migrated, serving, until

SECRET = "a-secret-of-ones-own"
GITHUB, SLACK, EVENTS = "/hooks/github", "/hooks/slack", "/hooks/events"


class Event(Struct):
    id: str
    data: dict[str, Any]


def made() -> App:
    app = App("own")

    @app.on("events", key=Key.field("id"), mode=AtMostOnce(), name="first", same=("data",))
    async def first(event: Event) -> None:
        return None

    @app.on("events", key=Key.field("id"), mode=AtMostOnce(), name="second", same=("data",))
    async def second(event: Event) -> None:
        return None

    def translated(body: dict[str, Any], request: Request) -> Event | None:
        match body.get("do"):
            case "ignore":
                return None
            case "reject":
                raise Reject("not ours")
            case "bug":
                raise AttributeError("secret-4111")
        return Event(request.key, body)

    app.webhook(GITHUB, GitHub(secret=Secret.env("OWN_SECRET")), topic="events", translate=translated)
    app.webhook(SLACK, Slack(secret=Secret.env("OWN_SECRET")), topic="events", translate=translated)
    app.webhook(
        EVENTS,
        CloudEvents(secret=Secret.env("OWN_SECRET"), batched=True),
        topic="events",
        translate=translated,
    )
    app.webhook("/hooks/unset", GitHub(secret=Secret.env("OWN_UNSET")), topic="events", translate=translated)
    return app


@pytest.fixture
async def own(tmp_path, monkeypatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("OWN_SECRET", SECRET)
    monkeypatch.delenv("OWN_UNSET", raising=False)
    app = made()
    async with serving(app, await migrated(app, f"sqlite:///{tmp_path}/own.db")) as site:
        yield site


async def github(site: Site, body: bytes, delivery: str, path: str = GITHUB, **more: str) -> httpx.Response:
    signature = "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": signature, "X-GitHub-Delivery": delivery, "X-GitHub-Event": "push"}
    return await site.post(path, None, body, list((headers | more).items()))


async def slack(site: Site, body: bytes, at: float | None = None) -> httpx.Response:
    stamp = str(int(time.time() if at is None else at))
    kit = slack_sdk.signature.SignatureVerifier(SECRET)
    signature = kit.generate_signature(timestamp=stamp, body=body)
    assert signature is not None
    headers = [("X-Slack-Request-Timestamp", stamp), ("X-Slack-Signature", signature)]
    return await site.post(SLACK, None, body, headers)


async def test_a_replay_under_an_id_that_nobody_signed_is_the_event_of_before(own):
    body = b'{"ref":"main"}'
    for delivery in ("d-1", "d-1", "d-2", "d-3"):
        assert (await github(own, body, delivery)).status_code == 200
    entries = await own.entries()
    assert sorted(entry.handler for entry in entries) == ["first", "second"]
    assert len({entry.key for entry in entries}) == 1
    assert own.running.desk.results["github", "duplicate"] == 3


async def test_events_that_differ_never_share_a_key(own):
    for number in range(5):
        assert (await github(own, b'{"n":%d}' % number, "d-1")).status_code == 200
    assert len({entry.key for entry in await own.entries("first")}) == 5


async def test_every_subscriber_gets_its_own_entry_in_one_commit(own):
    assert (await github(own, b"{}", "d-1")).status_code == 200
    first, second = await own.entries("first"), await own.entries("second")
    assert first[0].key == second[0].key
    assert first[0].identity != second[0].identity


async def test_no_credential_is_stored(own):
    body = b'{"ref":"main"}'
    more = {"Authorization": "Bearer canary-1", "Cookie": "canary-2", "X-Custom": "canary-3"}
    assert (await github(own, body, "d-1", **more)).status_code == 200
    signature = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
    for entry in await own.entries():
        assert entry.message is not None
        assert b"canary" not in entry.message
        assert signature.encode() not in entry.message
        assert SECRET.encode() not in entry.message


async def test_no_header_says_which_secret_counts(own):
    body = b"{}"
    other = "sha256=" + hmac.new(b"mine", body, "sha256").hexdigest()
    headers = {"X-Hub-Signature-256": other, "X-GitHub-Delivery": "d", "X-Webhook-Secret": "mine"}
    reply = await own.post(GITHUB, None, body, list(headers.items()))
    assert (reply.status_code, reply.content) == (401, b"")
    assert await own.entries() == []


async def test_an_array_as_a_body_is_a_dead_letter_of_a_translation_that_takes_objects(own):
    assert (await github(own, b"[1]", "d-1")).status_code == 200
    assert {entry.state.word for entry in await own.entries()} == {"dead"}


async def test_without_its_secret_a_webhook_is_503_and_the_others_go_on(own):
    reply = await github(own, b"{}", "d-1", "/hooks/unset")
    assert (reply.status_code, code_of(reply)) == (503, "secret-missing")
    assert reply.headers["retry-after"] == "2"
    assert "OWN_UNSET" not in reply.text
    assert await own.entries() == []
    assert (await github(own, b"{}", "d-1")).status_code == 200


async def test_slacks_kit_signs_and_its_handshake_is_answered(own):
    greeting = b'{"type":"url_verification","challenge":"c-1","token":"t"}'
    reply = await slack(own, greeting)
    assert reply.status_code == 200
    assert "c-1" in reply.text
    assert await own.entries() == []
    event = b'{"type":"event_callback","event_id":"Ev1","event":{}}'
    for _ in range(2):
        assert (await slack(own, event)).status_code == 200
    assert {entry.key for entry in await own.entries()} == {b"Ev1"}
    for off in (-301, 310):  # the future comes nearer meanwhile
        assert (await slack(own, event, time.time() + off)).status_code == 401


async def test_what_the_translation_says(own):
    assert (await github(own, b'{"do":"ignore"}', "d-1")).status_code == 200
    rejected = await github(own, b'{"do":"reject"}', "d-2")
    assert (rejected.status_code, code_of(rejected), rejected.json()["detail"]) == (
        422,
        "rejected",
        "not ours",
    )
    bug = await github(own, b'{"do":"bug"}', "d-3")
    assert (bug.status_code, code_of(bug)) == (500, "failed")
    assert "4111" not in bug.text
    assert await own.entries() == []


def batch(*numbers: int, **more: str) -> bytes:
    event = {"specversion": "1.0", "source": "/s", "type": "t"}
    return json.dumps(
        [event | {"id": f"e-{n}"} | ({"do": more[f"e{n}"]} if f"e{n}" in more else {}) for n in numbers]
    ).encode()


async def test_events_of_a_batch_are_entries_of_their_own_and_none_costs_the_others(own):
    headers = [("Authorization", f"Bearer {SECRET}"), ("Content-Type", "application/cloudevents-batch+json")]
    first = await own.post(EVENTS, None, batch(1, 2), headers)
    assert first.status_code == 202
    assert {entry.state.word for entry in await own.entries()} == {"received"}
    assert (await own.post(EVENTS, None, batch(1, 2, 3), headers)).status_code == 202
    assert len(await own.entries("first")) == 3
    mixed = await own.post(EVENTS, None, batch(4, 5, 6, e5="reject", e6="ignore"), headers)
    assert mixed.status_code == 202
    found = await own.entries("first")
    assert sorted(entry.state.word for entry in found) == ["dead"] + ["received"] * 4
    [dead] = [entry for entry in found if entry.state.word == "dead"]
    assert dead.reason == "decode: rejected: not ours"
    assert dead.message is not None
    assert b'"e-5"' in dead.message
    wrong = [("Authorization", "Bearer another"), headers[1]]
    assert (await own.post(EVENTS, None, batch(7), wrong)).status_code == 401
    assert len(await own.entries("first")) == 5


async def test_nobody_is_told_before_it_is_durable(own, monkeypatch):
    """A second copy that arrives while the first is being written waits for the same commit, or its own."""
    land, held, go = own.running.runtime.parts.arrivals.land, asyncio.Event(), asyncio.Event()

    async def slow(landings):
        held.set()
        await go.wait()
        return await land(landings)

    monkeypatch.setattr(own.running.desk._land, "_verb", slow)
    copies = [asyncio.create_task(github(own, b"{}", f"d-{n}")) for n in range(3)]
    async with asyncio.timeout(20):
        await held.wait()
    done, _ = await asyncio.wait(copies, timeout=0.2)
    assert not done
    assert await own.entries() == []
    go.set()
    assert {(await copy).status_code for copy in copies} == {200}
    assert len(await own.entries("first")) == 1


async def test_a_landing_that_fails_is_503_and_comes_again(own, monkeypatch):
    async def away(landings):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(own.running.desk._land, "_verb", away)
        reply = await github(own, b"{}", "d-1")
        assert reply.status_code == 503
        assert code_of(reply) == "store-unavailable"
        assert 1 <= int(reply.headers["retry-after"]) <= 60

    async def again() -> bool:
        return (await github(own, b"{}", "d-1")).status_code == 200

    await until(again, "it is landed")
    assert len(await own.entries("first")) == 1
