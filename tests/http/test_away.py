"""A store that is away or says nothing: who waits for an answer is told within one limit, and at once where that is known."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consumer.errors import StoreUnavailable
from consumer.path.away import KNOWN_AFTER, Away
from handlers.app import app
from tests.http.shopkit import STANDARD_SECRET, STRIPE_SECRET, Site, code_of, migrated, replayed, serving

LIMIT = 0.3


class Silent:
    """Groups of a store that takes the connection and says nothing, until it does."""

    def __init__(self, groups: Any) -> None:
        self._groups = groups
        self.lanes = groups.lanes
        self.speaks = asyncio.Event()
        self.asked = 0

    async def open(self) -> Any:
        self.asked += 1
        await self.speaks.wait()
        return await self._groups.open()


class Gone(Away):
    """A store that has been away for a while, whatever the sweep says."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now)
        self.refused(StoreUnavailable("nobody listens"))
        self.now = KNOWN_AFTER

    def answered(self, *, wrote: bool = True) -> None:
        """Not yet."""


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    monkeypatch.setenv("STANDARD_WEBHOOK_SECRET", STANDARD_SECRET)
    url = await migrated(app, f"sqlite:///{tmp_path / 'shop.db'}")
    async with serving(app, url) as site:
        yield site


async def test_a_call_that_the_store_keeps_waiting_is_told_within_one_limit(shop: Site) -> None:
    """It goes on, and the key tells who asks again. Mutant: a caller waits for as long as the store likes."""
    parts, desk = shop.running.runtime.parts, shop.running.desk
    groups = parts.groups = Silent(parts.groups)
    desk._limit = LIMIT
    asking = asyncio.create_task(shop.pay("p-1"))
    told, _ = await asyncio.wait({asking}, timeout=20 * LIMIT)
    parts.away.answered()
    groups.speaks.set()
    assert told, "the store says nothing yet, and the caller waits on"
    reply = asking.result()
    assert (reply.status_code, code_of(reply)) == (503, "store-unavailable")
    desk._limit = 10.0
    if parts.calls:
        await asyncio.wait(set(parts.calls))
    reply = await shop.pay("p-1")
    assert (reply.status_code, replayed(reply)) == (201, True), "the first request's own result"
    assert await shop.rows() == 1


async def test_a_reader_is_told_at_once_where_the_store_is_known_to_be_away(shop: Site) -> None:
    """Mutant: a read asks a store that is away."""
    parts = shop.running.runtime.parts
    groups = parts.groups = Silent(parts.groups)
    away, parts.away = parts.away, Gone()
    reply = await shop.client.get("/payments/p-1")
    assert (reply.status_code, code_of(reply)) == (503, "store-unavailable")
    reply = await shop.pay("p-1")
    assert (reply.status_code, code_of(reply)) == (503, "store-unavailable")
    assert groups.asked == 0
    parts.away = away
    groups.speaks.set()
    assert (await shop.client.get("/payments/p-1")).status_code == 404


async def test_a_reader_waits_for_one_limit_at_most(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.app.STORE_LIMIT", LIMIT)
    parts = shop.running.runtime.parts
    groups = parts.groups = Silent(parts.groups)
    reply = await shop.client.get("/payments/p-1")
    assert (reply.status_code, code_of(reply)) == (503, "store-unavailable")
    assert groups.asked == 1
    groups.speaks.set()
    assert (await shop.client.get("/payments/p-1")).status_code == 404


async def test_a_look_that_fails_is_remembered(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a probe finds out, requests need not find out again. Mutant: only the sweep marks."""

    async def refuses(claims: Any) -> Any:
        raise StoreUnavailable("nobody listens")

    parts, desk = shop.running.runtime.parts, shop.running.desk
    parts.away = Away(lambda: 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(desk._parts, "inbox", type("Refusing", (), {"look": staticmethod(refuses)}))
        assert not await desk.answers()
        assert parts.away._since is not None
    assert await desk.answers()
    assert parts.away._since is None


async def test_a_store_that_answers_and_takes_no_write_is_not_ready(shop: Site, tmp_path: Path) -> None:
    """As with a full disk, or a lock that another program holds. Mutant: ready while no write is taken."""
    desk = shop.running.desk
    desk._limit = LIMIT
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    try:
        other.execute("begin immediate")
        assert (await shop.pay("p-1")).status_code == 503
        assert not await desk.answers()
        other.execute("rollback")
    finally:
        other.close()
    desk._limit = 10.0
    if shop.running.runtime.parts.calls:
        await asyncio.wait(set(shop.running.runtime.parts.calls))
    assert (await shop.pay("p-1")).status_code == 201
    assert await desk.answers()
