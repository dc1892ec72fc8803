"""docs/handlers.md: its code blocks are one program, which is declared, tested and run as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from consumer.settings import Settings
from consumer.testing import Harness
from tests.path.kit import migrated
from tests.path.pagekit import BLOCK, DOCS, program_of

PAGE = DOCS / "handlers.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program, as a module; its lines have the numbers that they have on the page."""
    return program_of(PAGE, monkeypatch)


def test_every_block_of_python_is_part_of_it() -> None:
    assert len(BLOCK.findall(TEXT)) == TEXT.count("```python") > 4


def test_nothing_is_wrong_with_what_it_declares(page: Any) -> None:
    page.app.handlers.check()
    assert [handler.name for handler in page.app.handlers.declared] == [
        "payments.requested",
        "cards.charge",
        "clicks",
    ]


async def test_its_test_passes(page: Any) -> None:
    await page.test_a_lost_answer_is_asked_about_not_repeated()


async def test_its_program_runs(page: Any, tmp_path: Path) -> None:
    """It asserts its own result."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    await migrated(page.app, url)
    await page.main(Settings(store=url), page.Payment("p-1", "acc-1", 5, "EUR"))


async def test_its_batch_refuses_one_item_alone(page: Any) -> None:
    async with Harness(page.app, resources={page.Psp: page.FakePsp()}) as shop:
        good = await shop.deliver("clicks", page.Click("c-1", "/"))
        bad = await shop.deliver("clicks", page.Click("c-2", "nowhere"))
    assert (good.state, bad.state, bad.reason) == ("done", "dead", "not a path")


async def test_its_payment_is_refused_or_settled(page: Any) -> None:
    async with Harness(page.app, resources={page.Psp: page.FakePsp()}) as shop:
        refused = await shop.deliver("payments.requested", page.Payment("p-1", "a", 0, "EUR"))
        settled = await shop.deliver("payments.requested", page.Payment("p-2", "a", 5, "EUR"), times=2)
        published = [message.topic for message in shop.published]
    assert (refused.state, refused.reason) == ("dead", "amount must be positive")
    assert (settled.state, settled.starts, settled.result) == ("done", 1, {"status": "settled"})
    assert published == ["payments.settled"]


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT):
        assert (DOCS / target).exists(), target
