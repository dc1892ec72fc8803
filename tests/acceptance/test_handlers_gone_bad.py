"""Handlers that misbehave, in a process of their own on real Postgres: they harm themselves and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance.looks import come_to, states
from tests.acceptance.shop import Shop, until
from tests.acceptance.worlds import EmbeddedOnPostgres

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def bad(postgres_url: str, tmp_path: Path) -> AsyncIterator[EmbeddedOnPostgres]:
    world = EmbeddedOnPostgres(tmp_path, postgres_url, app="tests.acceptance.apps.bad:app")
    world.shop.migrate()
    yield world
    world.shop.close()


async def marks(world: EmbeddedOnPostgres, who: str) -> list[str]:
    return sorted(row[0] for row in await world.query(f"select id from marks where who = '{who}'"))


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("tx", ["asks_for_tx", "asks for Tx", "Transactional()"]),
        ("sync", ["synchronous", "asyncio.to_thread"]),
        ("key", ["misspelt", "no field 'idd'", "did you mean 'id'"]),
        ("unannotated", ["unannotated"]),
        ("resource", ["asks_for_dict", "dict[str, int]"]),
        ("nothing", ["takes_nothing"]),
    ],
)
def test_a_wrong_declaration_is_refused_before_anything_is_consumed(
    tmp_path: Path, which: str, words: list[str]
) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db", app="tests.acceptance.apps.wrong:app")
    shop.environment["WRONG"] = which
    for verb in ("run", "check"):
        done = shop.command(verb, shop.app)
        assert (done.returncode, done.stdout) == (78, ""), done
        assert "Traceback" not in done.stderr
        for word in [*words, "wrong.py:"]:
            assert word in done.stderr, done.stderr


@pytest.mark.parametrize("topic", ["hangs", "deaf"])
async def test_one_that_never_returns_is_rolled_back_and_buried(bad: EmbeddedOnPostgres, topic: str) -> None:
    await bad.send(topic, [{"id": "a"}, {"id": "never", "fate": "bad"}, {"id": "b"}])
    await bad.send("good", [{"id": f"g-{i}"} for i in range(20)])
    bad.shop.start("--worker-ttl", "5", "--grace", "2")
    await come_to(bad, "good", "g-", *["done"] * 20)
    await come_to(bad, topic, "", "done", "done", "dead", seconds=40)
    shown = bad.shop.shown("never")
    assert (shown["state"], shown["attempts"]) == ("dead", 2)
    assert "no result within 1 s" in shown["reason"]
    assert await marks(bad, topic) == ["a", "b"], "what it had written is gone"
    await bad.send(topic, [{"id": "later"}])
    await come_to(bad, topic, "later", "done")
    code = bad.shop.terminate(bad.shop.workers[0])
    assert code == (0 if topic == "hangs" else 1), "1 where a handler still runs"


async def test_one_that_is_deaf_is_in_doubt_and_keeps_only_its_slot(bad: EmbeddedOnPostgres) -> None:
    await bad.send("deaf.once", [{"id": "never", "fate": "bad"}, *({"id": f"d-{i}"} for i in range(10))])
    bad.shop.start("--slots", "2", "--grace", "2")
    await come_to(bad, "deaf.once", "d-", *["done"] * 10)
    await come_to(bad, "deaf.once", "never", "in_doubt")
    assert bad.shop.terminate(bad.shop.workers[0]) == 1


async def test_one_that_leaks_its_tx_writes_into_nobodys_transaction(bad: EmbeddedOnPostgres) -> None:
    ids = [f"l-{i:02}" for i in range(30)]
    await bad.send("leaks", [{"id": each} for each in ids])
    bad.shop.start()
    await come_to(bad, "leaks", "l-", *["done"] * 30)
    await bad.send("good", [{"id": f"g-{i}"} for i in range(20)])
    await come_to(bad, "good", "g-", *["done"] * 20)
    assert await marks(bad, "leaks") == ids
    assert await marks(bad, "leaked") == await marks(bad, "late") == []
    assert await states(bad, "good", "leaked-") == [], "nor does a leaked Context publish"
    assert bad.shop.terminate(bad.shop.workers[0]) == 0


async def test_one_that_swallows_a_database_error_is_found(bad: EmbeddedOnPostgres) -> None:
    """Mutant: commit whatever the handler says; the transaction was aborted and COMMIT rolls it back silently."""
    things = [{"id": f"s-{i}", "fate": "bad" if i == 5 else "good"} for i in range(12)]
    await bad.send("swallows", things)
    bad.shop.start()
    await come_to(bad, "swallows", "s-", *["done"] * 11, "dead")
    assert bad.shop.shown("s-5")["state"] == "dead"
    assert await marks(bad, "swallows") == sorted(f"s-{i}" for i in range(12) if i != 5)


FATES = ["through tx", "through the driver", "rollback", "commit and begin", "closes", "commits and swallows"]


async def test_one_that_ends_the_transaction_itself_is_found(bad: EmbeddedOnPostgres) -> None:
    """Mutant: no gate. A handler's own COMMIT would make entries done whose handlers have not run."""
    things = [{"id": f"c-{fate}", "fate": fate} for fate in FATES]
    for i, thing in enumerate(things):
        await bad.send("commits", [{"id": f"c-{i}a"}, thing, {"id": f"c-{i}b"}])
    bad.shop.start()
    await come_to(bad, "commits", "c-", *["done"] * 12, *["dead"] * 6, seconds=60)
    for fate in FATES:
        shown = bad.shop.shown(f"c-{fate}")
        assert (shown["state"], shown["attempts"]) == ("dead", 2), fate
        assert shown["reason"], fate
    wanted = sorted(f"c-{i}{letter}" for i in range(6) for letter in "ab")
    assert await marks(bad, "commits") == wanted, "each neighbour once, the culprits never"


async def test_one_that_ends_everything(bad: EmbeddedOnPostgres) -> None:
    things = [{"id": f"e-{fate}", "fate": fate} for fate in ("sys.exit", "cancels itself")]
    await bad.send("ends", [{"id": "e-0"}, *things, {"id": "e-1"}])
    worker = bad.shop.start()
    await come_to(bad, "ends", "e-", "done", "done", "dead", "dead")
    assert worker.poll() is None, bad.shop.logs()
    assert await marks(bad, "ends") == ["e-0", "e-1"]


async def test_one_that_kills_its_process_is_bounded(bad: EmbeddedOnPostgres) -> None:
    await bad.send("ends", [{"id": "k-0"}, {"id": "k-kills", "fate": "os._exit"}, {"id": "k-1"}])
    for _ in range(8):
        worker = bad.shop.begin("--worker-ttl", "1")

        async def over(worker=worker) -> bool:
            there = await states(bad, "ends", "k-")
            return worker.poll() is not None or sorted(there) == ["dead", "done", "done"]

        await until(over, 30, lambda: f"dead, or the process is\n{bad.shop.logs()}")
        if worker.poll() is None:
            break
    await come_to(bad, "ends", "k-", "dead", "done", "done")
    assert bad.shop.shown("k-kills")["state"] == "dead"
    assert await marks(bad, "ends") == ["k-0", "k-1"]


async def test_a_result_that_cannot_be_stored(bad: EmbeddedOnPostgres) -> None:
    await bad.send("returns", [{"id": "r-0"}, {"id": "r-bad", "fate": "bad"}, {"id": "r-1"}])
    bad.shop.start()
    await come_to(bad, "returns", "r-", "done", "dead", "done")
    assert await marks(bad, "returns") == ["r-0", "r-1"]
    assert bad.shop.shown("r-bad")["reason"]
