"""docs/http.md: what it says of defaults is what the code has, its programs compile, and its client works."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from consumer.declare.ways import LONGEST_WAIT
from consumer.http.policy import KEPT, UNSTORED, Policy
from consumer.http.problem import PROBLEMS
from consumer.path.desk import MOST_CALLS
from consumer.rules.decode import LONGEST_BODY
from tests.http.guardkit import Bank, guarding

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^( *)```python\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_statuses_that_free_the_key_are_named():
    [row] = re.findall(r"^\| answers ([0-9, ]+) \| free again", PAGE, re.MULTILINE)
    assert {int(status) for status in row.split(",")} == UNSTORED


def test_the_header_fields_that_are_stored_are_named():
    [listed] = re.findall(r"header fields these are stored: (.*?); and those", PAGE, re.DOTALL)
    assert {name.strip().lower() for name in listed.replace("\n", " ").split(",")} == KEPT


def test_the_limits_are_the_codes():
    assert f"| 0–{LONGEST_WAIT:g} s |" in PAGE
    assert f"| requests under way in one process | {MOST_CALLS} |" in PAGE
    assert f"| stored response | {Policy().largest // 1024} KiB" in PAGE
    assert f"| body of a request with a key | {LONGEST_BODY // 1024 // 1024} MiB" in PAGE


def test_every_problem_that_a_key_can_meet_is_in_the_table():
    [table] = re.findall(r"^## Every status\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    for status, row in PROBLEMS.items():
        if row.status not in {404, 405}:
            assert f"`{status}`" in table, status


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_program_compiles(number):
    indent, text = BLOCKS[number]
    compile(re.sub(f"^{indent}", "", text, flags=re.MULTILINE), f"docs/http.md block {number}", "exec")


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (DOCS / target).exists(), target


async def test_its_client_repeats_what_may_be_repeated():
    """A key that is in progress is asked about until it is done; what is not retryable comes back at once."""
    [client_block] = [text for _, text in BLOCKS if "async def post(" in text]
    names: dict[str, Any] = {"asyncio": asyncio, "httpx": httpx, "random": random}
    exec(client_block, names)
    bank = Bank()
    async with (
        guarding(bank) as guarded,
        httpx.AsyncClient(transport=httpx.ASGITransport(guarded.asgi), base_url="http://bank") as client,
    ):
        first = asyncio.create_task(guarded.send("k1", b"{}", path="/wait"))
        await bank.entered.wait()
        second = asyncio.create_task(names["post"](client, "/wait", b"{}", "k1"))
        other = await names["post"](client, "/wait", b"other", "k1")
        bank.leave.set()
        assert (await first).status == 201
        assert (await second).headers["idempotent-replayed"] == "true"
        assert other.status_code == 422
    assert bank.runs == 1
