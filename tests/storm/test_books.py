"""The storm's own parts: the books notice what is wrong, and a seed always makes the same storm."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.storm.books import Books
from tests.storm.plan import BROKER, DATABASE, DUPLICATES, GROW, KILL, PAUSE, SHRINK, Plan, blows, stream


@pytest.mark.parametrize("name", ["doubled", "lost", "dead", "reannounced"])
def test_one_of_it_is_wrong(name: str) -> None:
    made = Books()
    assert not made.wrong
    setattr(made, name, 1)
    assert made.wrong == [f"{name}: 1, expected 0"]


def test_more_doubts_than_slots_of_those_hurt_are_wrong() -> None:
    assert not Books(in_doubt=64, bound=64).wrong
    assert Books(in_doubt=65, bound=64).wrong == ["in doubt: 65, more than 64"]


def test_a_worker_that_ends_by_itself_is_wrong() -> None:
    assert "WRONG" in str(Books(faults=["a worker ended by itself, exit 1: …"]))


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_makes_one_storm(seed: int) -> None:
    plan = Plan(seed=seed, seconds=300, messages=1_000)
    found = blows(plan)
    assert found == blows(plan) != blows(Plan(seed=seed + 1, seconds=300))
    assert stream(plan) == stream(plan)
    assert len(stream(plan)) - len(set(stream(plan))) == round(1_000 * DUPLICATES)
    counts = Counter(blow.what for blow in found)
    assert counts[BROKER] == counts[DATABASE] == counts[GROW] == counts[SHRINK] == 1
    assert min(counts[KILL], counts[PAUSE]) >= 5
    assert any(b.length < plan.ttl for b in found if b.what == PAUSE)
    assert any(b.length > plan.ttl for b in found if b.what == PAUSE)
    assert [blow.at for blow in found] == sorted(blow.at for blow in found)
