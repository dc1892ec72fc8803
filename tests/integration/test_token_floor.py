"""`consumer migrate --token-floor`: what a restored copy must not hand out a second time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.entry import Won
from consumer.stores import RaisesTokens, open_store
from consumer.testing.contract.samples import claim

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return (
        f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )


async def next_token(url: str, key: str) -> int:
    store = open_store(url, "shop")
    try:
        worker = await store.workers.open(60, "test")
        _, [answer] = await store.inbox.turn(worker, [], [claim(key)])
        await store.workers.close(worker)
    finally:
        await store.close()
    assert isinstance(answer, Won)
    return answer.token


async def raised(url: str, floor: int) -> int:
    store = open_store(url, "shop")
    try:
        assert isinstance(store, RaisesTokens)
        return await store.raise_tokens(floor)
    finally:
        await store.close()


async def test_no_token_up_to_the_floor_is_handed_out_again(url):
    """Mutant: a floor below the present token sets the counter back."""
    store = open_store(url, "shop")
    await store.migrate()
    await store.close()
    assert await next_token(url, "before") < 1_000
    assert await raised(url, 1_000) == 1_000
    assert await next_token(url, "after") == 1_001
    assert await raised(url, 5) >= 1_001, "it never goes back"
    assert await next_token(url, "later") > 1_001


def consumer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_verb(tmp_path):
    store = f"sqlite:///{tmp_path}/s.db"
    said = consumer("migrate", "handlers.app:app", "--store", store, "--token-floor", "70000")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[-1] == "no token up to 70000 is handed out any more"
    again = consumer("migrate", "handlers.app:app", "--store", store, "--token-floor", "7")
    assert again.stdout.splitlines()[-1] == "no token up to 70000 is handed out any more"
    assert consumer("migrate", "handlers.app:app", "--store", store, "--token-floor", "0").returncode == 2


def test_a_store_that_is_never_restored_says_so(tmp_path):
    done = consumer("migrate", "handlers.notify:app", "--store", "memory:", "--token-floor", "7")
    assert done.returncode == 78
    assert "nothing in it outlives this process" in done.stderr
