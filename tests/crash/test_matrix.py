"""SIGKILL at every point of the path, on both SQL stores, in every mode: what the promise looks like afterwards."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from consumer.entry import Entry, State
from consumer.rules import keys
from consumer.stores import open_store
from tests.crash.killers import Killer
from tests.crash.plan import AFTER_COMMIT, HANDLER, POINTS, Plan
from tests.crash.victim import APP, build, run
from tests.path.kit import select

KEYS = tuple(f"k{number}" for number in range(10))
MODES = ("Transactional", "AtMostOnce", "AtLeastOnce")
AT_REST = {State.DONE, State.DEAD, State.IN_DOUBT}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'victim.db'}"


async def migrate(plan: Plan) -> None:
    store = open_store(plan.url, APP)
    await store.open(check=False)
    await store.migrate(build(plan, Killer(plan)).own_schema(store.capabilities.dialect))
    await store.close()


async def run_child(plan: Plan) -> int:
    """Run the victim in a process of its own; return its exit code."""
    text = msgspec.json.encode(plan).decode()
    root = Path(__file__).parents[2]
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.crash.victim", text, cwd=root)
    return await child.wait()


async def entries_of(plan: Plan) -> dict[str, Entry]:
    store = open_store(plan.url, APP)
    await store.open()
    try:
        found = [entry for key in plan.keys for entry in await store.operator.find(key.encode())]
    finally:
        await store.close()
    assert len({entry.key for entry in found}) == len(found), "one entry per key"
    return {entry.key.decode(): entry for entry in found}


@pytest.mark.parametrize("point", POINTS, ids=[point.replace(" ", "-") for point in POINTS])
@pytest.mark.parametrize("mode", MODES)
async def test_kill(mode: str, point: str, url: str, tmp_path: Path) -> None:
    """What holds whatever the point: nothing is lost, and no promise is broken.

    Mutants: claim batch > slots (`Slots._next`: `free` without `len(self._slots)`); ack of a body-less entry
    (`held.endings_of_held`: OK without the turn that attaches the bytes); outbox outside the transaction
    (`seal_and_commit`: results filled, messages not).
    """
    plan = Plan(url, str(tmp_path), mode, KEYS, point=point)
    await migrate(plan)
    assert await run_child(plan) == -signal.SIGKILL
    acked_before = {line["key"] for line in plan.noted("acks")}
    known_before = await entries_of(plan)
    for key in acked_before:
        entry = known_before[key]
        assert entry.state is State.DONE or entry.message is not None, "acknowledged means done, or kept"
    await run(msgspec.structs.replace(plan, point=None))
    entries = await entries_of(plan)
    starts = Counter(line["key"] for line in plan.noted("effects"))
    tokens = {line["key"]: line["token"] for line in plan.noted("effects")}  # the last start's
    published: dict[str, set[str]] = {}
    for line in plan.noted("published"):
        published.setdefault(line["key"], set()).add(line["id"])
    assert set(entries) == set(KEYS), "nothing is lost"
    assert {line["key"] for line in plan.noted("acks")} == set(KEYS)
    for key, entry in entries.items():
        assert entry.state in AT_REST
        done = entry.state is State.DONE
        assert published.get(key, set()) == ({_outgoing_id(key)} if done else set())
        assert entry.result == (b'"%s"' % key.encode() if done else None)
        assert entry.token == tokens.get(key, entry.token) or not done, "the highest token has won"
    rows = await select(url, "select id, token from effects order by id")
    _CHECKS[mode](plan, point, entries, starts, rows)


def _transactional(
    plan: Plan, point: str, entries: dict[str, Entry], starts: Counter[str], rows: list[tuple[str, int]]
) -> None:
    assert {entry.state for entry in entries.values()} == {State.DONE}
    assert [(key, token) for key, token in rows] == [(key, entries[key].token) for key in sorted(KEYS)]


def _at_most_once(
    plan: Plan, point: str, entries: dict[str, Entry], starts: Counter[str], rows: list[tuple[str, int]]
) -> None:
    assert max(starts.values()) == 1
    doubtful = [entry for entry in entries.values() if entry.state is State.IN_DOUBT]
    assert len(doubtful) <= plan.slots
    assert all(entry.message is not None for entry in doubtful), (
        "with the bytes that the redelivery has brought"
    )
    assert {key for key, entry in entries.items() if entry.state is State.DONE} <= set(starts)
    if point == HANDLER:
        assert doubtful, "started and never settled: somebody must see it"


def _at_least_once(
    plan: Plan, point: str, entries: dict[str, Entry], starts: Counter[str], rows: list[tuple[str, int]]
) -> None:
    assert {entry.state for entry in entries.values()} == {State.DONE}
    assert set(starts) == set(KEYS)
    if point == AFTER_COMMIT:
        assert max(starts.values()) <= 2


_CHECKS = {"Transactional": _transactional, "AtMostOnce": _at_most_once, "AtLeastOnce": _at_least_once}


def _outgoing_id(key: str) -> str:
    return keys.outgoing_id(keys.identity(APP, "public", "orders", key.encode()), 0).hex()


async def test_poison_is_dead_after_its_budget(url: str, tmp_path: Path) -> None:
    """A message whose handler kills the process every time, although the restarts come late: its worker is long gone.

    Mutant: poison not counted (`Caution.look` that never alarms).
    """
    plan = Plan(url, str(tmp_path), "Transactional", ("a", "b", "poison", "c", "d"), poison="poison")
    await migrate(plan)
    codes: list[int] = []
    while not codes or (codes[-1] and len(codes) < 10):
        codes.append(await run_child(plan))
        await age_workers(url)
    assert codes[-1] == 0, f"the process never came through: {codes}"
    entries = await entries_of(plan)
    assert {key: entry.state.word for key, entry in entries.items()} == {
        "a": "done",
        "b": "done",
        "c": "done",
        "d": "done",
        "poison": "dead",
    }
    starts = Counter(line["key"] for line in plan.noted("effects"))
    assert entries["poison"].attempts == 5
    assert starts["poison"] <= 6, "once in the group, where nothing is counted, and five times alone"
    assert entries["poison"].message is not None
    assert [row[0] for row in await select(url, "select id from effects order by id")] == ["a", "b", "c", "d"]


async def age_workers(url: str) -> None:
    """Let the time-to-live of every dead worker be over (on SQLite there is none: the lock is free)."""
    if url.startswith("postgres"):
        import asyncpg

        database = await asyncpg.connect(url)
        await database.execute("update consumer_workers set ttl = 0, beat_at = beat_at - interval '1 hour'")
        await database.close()
