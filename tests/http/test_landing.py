"""Landing of webhooks: acknowledged only once durable, and what arrives together is one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from consumer.entry import Landed, Landing
from consumer.errors import StoreUnavailable
from consumer.path.coalesce import Coalesced
from handlers.app import app
from tests.http.shopkit import STANDARD_SECRET, STRIPE_SECRET, Site, code_of, migrated, serving
from tests.http.signing import as_bytes, intent, stripe_signed

AT_ONCE = 200
MOST_COMMITS = 12
"""Of `AT_ONCE` requests: each batch takes what has arrived while the one before was under way."""


async def hook(site: Site, key: str) -> httpx.Response:
    body = as_bytes(intent(key, f"evt-{key}"))
    return await site.post("/hooks/stripe", None, body, stripe_signed(body))


async def test_what_arrives_together_shares_commits(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by Postgres itself: the transactions that have written the rows. Mutant: a commit per request."""
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    monkeypatch.setenv("STANDARD_WEBHOOK_SECRET", STANDARD_SECRET)
    await migrated(app, postgres_url)
    async with serving(app, postgres_url) as site:
        answers = await asyncio.gather(*(hook(site, f"p-{number}") for number in range(AT_ONCE)))
        assert {answer.status_code for answer in answers} == {200}
        [[rows, commits]] = await site.running.fetch(
            "select count(*), count(distinct xmin::text) from consumer_inbox"
        )
    assert rows == AT_ONCE
    assert commits <= MOST_COMMITS


async def test_what_arrives_together_is_landed_together(site: Site) -> None:
    """On every store. Mutant: a batch per request."""
    answers = await asyncio.gather(*(hook(site, f"p-{number}") for number in range(AT_ONCE)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await site.entries()) == AT_ONCE
    assert site.running.desk._land.batches <= MOST_COMMITS


async def test_nothing_is_acknowledged_before_it_is_durable(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: ack before landing."""
    desk = site.running.desk
    verb, asked, go = desk._parts.arrivals.land, asyncio.Event(), asyncio.Event()

    async def held(landings: Sequence[Landing]) -> Any:
        asked.set()
        await go.wait()
        return await verb(landings)

    monkeypatch.setattr(desk, "_land", Coalesced(held))
    reply = asyncio.create_task(hook(site, "p-1"))
    await asked.wait()
    done, _ = await asyncio.wait({reply}, timeout=0.2)
    found = await site.entries()
    go.set()
    assert not done
    assert found == []
    assert (await reply).status_code == 200
    assert len(await site.entries()) == 1


async def test_what_could_not_be_landed_is_asked_for_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(landings: Sequence[Landing]) -> list[Landed]:
        raise StoreUnavailable(f"{len(landings)} landings")

    with monkeypatch.context() as patched:
        patched.setattr(site.running.desk, "_land", Coalesced(away))
        replies = await asyncio.gather(*(hook(site, f"p-{number}") for number in range(5)))
        assert [(reply.status_code, code_of(reply)) for reply in replies] == [(503, "store-unavailable")] * 5
        assert {reply.headers["retry-after"] for reply in replies} == {"2"}
    assert [(await hook(site, f"p-{number}")).status_code for number in range(5)] == [200] * 5
    assert len(await site.entries()) == 5


async def test_a_sender_that_goes_away_takes_nobody_with_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event is landed all the same: it may have been written already, and it is authentic."""
    desk = site.running.desk
    verb, asked, go = desk._parts.arrivals.land, asyncio.Event(), asyncio.Event()

    async def held(landings: Sequence[Landing]) -> Any:
        asked.set()
        await go.wait()
        return await verb(landings)

    monkeypatch.setattr(desk, "_land", Coalesced(held))
    leaves, stays = (asyncio.create_task(hook(site, key)) for key in ("leaves", "stays"))
    await asked.wait()
    leaves.cancel()
    await asyncio.wait({leaves})
    go.set()
    assert (await stays).status_code == 200
    await desk.idle()
    assert len(await site.entries()) == 2


async def test_a_process_that_waits_for_too_many_landings_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is slower than what comes: 503 at once, and not a queue without an end."""
    desk = site.running.desk
    monkeypatch.setattr("consumer.path.desk.MOST_LANDINGS", 3)
    verb, go = desk._parts.arrivals.land, asyncio.Event()

    async def held(landings: Sequence[Landing]) -> Any:
        await go.wait()
        return await verb(landings)

    monkeypatch.setattr(desk, "_land", Coalesced(held, largest=1))
    tasks = [asyncio.create_task(hook(site, f"p-{number}")) for number in range(10)]
    refused, _ = await asyncio.wait(tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    go.set()
    answers = [task.result() for task in refused]
    assert {(answer.status_code, code_of(answer)) for answer in answers} == {(503, "overloaded")}
    statuses = [(await task).status_code for task in tasks]
    assert statuses.count(200) == len(await site.entries())
    assert 3 <= statuses.count(200) < 10
