"""docs/sqlalchemy.md: its program is declared, and runs on Postgres as the page says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.path.kit import opened, select
from tests.path.pagekit import BLOCK, DOCS, program_of

PAGE = DOCS / "sqlalchemy.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, as a module."""
    assert len(BLOCK.findall(TEXT)) == 1, "the page is one program"
    return program_of(PAGE, monkeypatch)


async def test_its_program_books_once(page: Any, postgres_url: str) -> None:
    order = page.Order("o-1", 5)
    async with opened(page.app, postgres_url) as shop:
        await shop.publish("orders.placed", [order, order])
        await shop.rest()
        assert await shop.running.call(page.book, order) == {"booked": 5}
    assert await select(postgres_url, "select order_id, amount from booking") == [("o-1", 5)]


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT):
        assert (DOCS / target).exists(), target
