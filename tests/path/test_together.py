"""Calls that share a commit: under load they do, and each is told what it would have been told alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import Struct

from consumer import App, Key, Reject, Retry, Settings, Transactional, Tx
from consumer.path.together import LARGEST, Together
from consumer.stores import open_store

CALLS = 200
LEDGER = "create table if not exists ledger (id text not null)"

app = App("together")
app.schema(postgres=[LEDGER], sqlite=[LEDGER])
began: Counter[str] = Counter()


class Ask(Struct):
    id: str
    fate: str = "good"


@app.on("asks", key=Key.field("id"), mode=Transactional())
async def take(ask: Ask, tx: Tx) -> dict[str, str]:
    began[ask.id] += 1
    await tx.execute("insert into ledger (id) values ($1)", ask.id)
    match ask.fate:
        case "reject":
            raise Reject("not today")
        case "retry":
            raise Retry("later")
        case "fault":
            raise RuntimeError("a bug")
        case "swallow":
            with contextlib.suppress(Exception):
                await tx.execute("insert into nowhere values ($1)", ask.id)
        case "slow":
            await asyncio.sleep(0.06)
    return {"id": ask.id}


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[str]:
    began.clear()
    place = f"sqlite:///{tmp_path}/together.db" if request.param == "sqlite" else ""
    server = None if place else request.getfixturevalue("postgres_service")
    if server is not None:
        server.start()
        place = await server.fresh_database()
    store = open_store(place, app.name)
    await store.migrate(app.own_schema(store.capabilities.dialect))
    await store.close()
    yield place
    if server is not None:
        await server.drop_database(place)


both = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


async def asked(running: Any, ask: Ask) -> str:
    """What a caller is told, in a word."""
    try:
        result = await running.call(take, ask)
    except Exception as fault:  # noqa: BLE001 - it is the answer
        return type(fault).__name__
    return f"done {result and result['id']}"


async def ledger(running: Any) -> list[str]:
    return sorted(row[0] for row in await running.fetch("select id from ledger"))


@both
async def test_what_arrives_in_one_turn_of_the_loop_is_one_group(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free connections do not tear it apart: the first ones would pay for a commit of their own each."""
    async with app.open(Settings(store=url)) as running:
        asks = [Ask(f"a-{number:03}") for number in range(10)]
        sizes: list[int] = []
        made = Together._next

        def watched(together: Together) -> Any:
            group = made(together)
            sizes.append(len(group))
            return group

        monkeypatch.setattr(Together, "_next", watched)
        monkeypatch.setattr("consumer.path.together.TIME_BOX", 60.0)  # a busy machine gives nobody back here
        told = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert told == [f"done {ask.id}" for ask in asks]
        assert sizes == [10]


@both
async def test_under_load_they_share_commits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: each alone."""
    monkeypatch.setattr("consumer.path.together.TIME_BOX", 60.0)  # how many fit into it, the machine decides
    async with app.open(Settings(store=url)) as running:
        asks = [Ask(f"a-{number:03}") for number in range(CALLS)]
        told = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert told == [f"done {ask.id}" for ask in asks]
        assert await ledger(running) == [ask.id for ask in asks]
        if "postgres" in url:
            [[commits]] = await running.fetch("select count(distinct xmin::text) from ledger")
            assert commits <= CALLS / 4, "alone they were all of them"
        assert running.desk._together.groups >= CALLS / LARGEST - 1
        again = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert again == told
        assert max(began.values()) == 1, "replays run nothing, and good neighbours nothing twice"


@both
@pytest.mark.parametrize(
    ("fate", "answer"),
    [("reject", "Dead"), ("retry", "Retry"), ("fault", "RuntimeError")],
)
async def test_one_that_fails_harms_nobody_in_its_group(url: str, fate: str, answer: str) -> None:
    async with app.open(Settings(store=url)) as running:
        asks = [Ask(f"a-{number:03}", fate if number % 20 == 7 else "good") for number in range(100)]
        told = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert told == [answer if ask.fate == fate else f"done {ask.id}" for ask in asks]
        assert await ledger(running) == [ask.id for ask in asks if ask.fate == "good"]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_swallowed_error_is_its_own_handlers(url: str) -> None:
    """The transaction is aborted and names no culprit: all of the group run alone, and only one of them fails."""
    async with app.open(Settings(store=url)) as running:
        asks = [Ask(f"a-{number:03}", "swallow" if number == 33 else "good") for number in range(60)]
        told = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert [word for ask, word in zip(asks, told, strict=True) if ask.fate == "good"] == [
            f"done {ask.id}" for ask in asks if ask.fate == "good"
        ]
        assert not told[33].startswith("done")
        assert await ledger(running) == [ask.id for ask in asks if ask.fate == "good"]


@both
async def test_slow_handlers_are_not_made_to_wait_for_each_other(url: str) -> None:
    """After the time box the rest is given back, and runs alone; every one once in the ledger."""
    async with app.open(Settings(store=url)) as running:
        asks = [Ask(f"a-{number:03}", "slow") for number in range(24)]
        told = await asyncio.gather(*(asked(running, ask) for ask in asks))
        assert told == [f"done {ask.id}" for ask in asks]
        assert await ledger(running) == [ask.id for ask in asks]
        assert max(began.values()) == 1, "whose turn did not come had not begun"


@both
async def test_a_caller_that_leaves_takes_nobody_with_it(url: str) -> None:
    async with app.open(Settings(store=url)) as running:
        tasks = [asyncio.create_task(asked(running, Ask(f"a-{number:03}"))) for number in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [word for word in told if isinstance(word, str)] == [
            f"done a-{number:03}" for number in range(60) if number % 3
        ]
    async with app.open(Settings(store=url)) as running:
        found = await ledger(running)
        assert len(found) == len(set(found)), "those that left are taken once, or not at all"
        assert {f"a-{number:03}" for number in range(60) if number % 3} <= set(found)
