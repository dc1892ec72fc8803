"""docs/problems.md against the table: every code has its section, and what stands there is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from consumer.http.problem import PROBLEMS, problem

PAGE = (Path(__file__).parents[2] / "docs" / "problems.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n\n([^\n]+)\n", PAGE, re.MULTILINE))


def test_every_code_has_a_section_and_every_section_a_code():
    assert list(SECTIONS) == list(PROBLEMS), (
        "docs/problems.md: one `## code` for every row of PROBLEMS, in its order"
    )


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_section_says_what_the_table_says(code):
    row = PROBLEMS[code]
    words = [str(row.status), "retryable" if row.retryable else "not retryable"]
    if row.after is not None:
        words.append(f"Retry-After: {row.after}")
    assert SECTIONS[code] == " · ".join(words)


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_names_its_section(code):
    """The type ends with the code, which is the anchor of its section."""
    body = json.loads(problem(code).body)
    assert re.split(r"[:#]", body["type"])[-1] == code
    assert re.fullmatch(r"[a-z-]+", code)


def test_the_example_is_what_is_sent():
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(example) == json.loads(problem("in-progress").body)
