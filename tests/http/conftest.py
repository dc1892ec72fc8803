"""`shop_url`: a migrated store of the reference application; `site`: the application served on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from handlers.app import app
from tests.http.shopkit import STANDARD_SECRET, STRIPE_SECRET, Site, migrated, serving


@pytest.fixture(params=["sqlite", "postgres"])
async def shop_url(request, tmp_path, monkeypatch) -> AsyncIterator[str]:
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    monkeypatch.setenv("STANDARD_WEBHOOK_SECRET", STANDARD_SECRET)
    monkeypatch.setenv("SHOP_EFFECTS", str(tmp_path / "effects.jsonl"))
    if request.param == "sqlite":
        yield await migrated(app, f"sqlite:///{tmp_path}/shop.db")
        return
    server = request.getfixturevalue("postgres_service")
    server.start()
    url = await server.fresh_database()
    yield await migrated(app, url)
    await server.drop_database(url)


@pytest.fixture
async def site(shop_url) -> AsyncIterator[Site]:
    async with serving(app, shop_url) as made:
        yield made
