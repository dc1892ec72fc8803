"""The reference application's worker and its end: SIGTERM, the grace, SIGKILL, and what the next worker makes of it."""

from __future__ import annotations

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.conftest import KAFKA, POSTGRES, SQLITE
from tests.acceptance.looks import come_to, ledger, payment, states, told
from tests.acceptance.shop import Shop, committed, until
from tests.acceptance.worlds import KafkaOnPostgres, World

pytestmark = pytest.mark.timeout(90)

everywhere = pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES, KAFKA], indirect=True)
alone_and_in_company = pytest.mark.parametrize("empty_world", [SQLITE, KAFKA], indirect=True)
on_kafka = pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
on_postgres = pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)

TTL = 3.0
SLOTS = 64


def notification(key: str, text: str = "hi") -> dict[str, str]:
    return {"notification_id": key, "to": "x", "text": text}


async def count(world: World, sql: str) -> int:
    [(found,)] = await world.query(sql)
    return int(found)


async def written(world: World, lines: int) -> None:
    async def there() -> bool:
        return len(world.shop.lines()) >= lines

    await until(
        there, 30, lambda: f"{lines} effects, there are {len(world.shop.lines())}\n{world.shop.logs()}"
    )


# --------------------------------------------------------------------------------------------------------- SIGTERM


@pytest.mark.timeout(180)
@alone_and_in_company
async def test_sigterm_under_load_finishes_what_is_in_hand(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    await world.send("payments.requested", [payment(f"load-{i}") for i in range(4_000)])
    worker = shop.start()

    async def busy() -> bool:
        return await count(world, "select count(*) from ledger") > 300

    await until(busy, 30, "the worker is at work")
    assert shop.terminate(worker, 20) == 0, f"well within the grace: nothing ran for long\n{shop.logs()}"
    rows = await count(world, "select count(*) from ledger")
    assert rows < 4_000, "the test meant to stop it half-way"
    assert await count(world, "select count(*) from consumer_inbox where state in (2, 5)") == 0
    second = shop.start()
    await come_to(world, "payments.settled", "load-", *["done"] * 4_000, seconds=120)
    assert await count(world, "select count(*) from ledger") == 4_000
    assert await count(world, "select count(distinct payment_id) from ledger") == 4_000
    assert shop.terminate(second) == 0
    assert len({line["key"] for line in shop.lines()}) == len(shop.lines()) == 4_000


@alone_and_in_company
async def test_a_handler_that_does_not_end_within_the_grace_is_in_doubt(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    await world.send("notifications.send", [notification("hangs", "unknown"), notification("fine")])
    worker = shop.start("--grace", "1")
    await come_to(world, "notifications.send", "fine", "done")
    await written(world, 2)
    begun = time.monotonic()
    assert shop.terminate(worker) == 1, shop.logs()
    assert 1 <= time.monotonic() - begun < 20, "its own grace, and not the usual one"
    shown = shop.shown("hangs")
    assert (shown["state"], shown["has_bytes"]) == ("in_doubt", True), "at once, without another worker"
    assert "shutdown" in shown["reason"]


@on_postgres
async def test_the_second_signal_ends_it_at_once(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    await world.send("notifications.send", [notification("hangs", "unknown")])
    worker = shop.start("--worker-ttl", "2")
    await written(world, 1)
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)  # the grace is 25 s: it waits
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 1, "not when the grace is over"
    shop.start()
    await come_to(world, "notifications.send", "hangs", "in_doubt")


def test_sigterm_while_it_waits_for_a_store_that_is_away(tmp_path) -> None:
    shop = Shop(tmp_path, store="postgresql://nobody@127.0.0.1:9/shop")
    worker = shop.begin()
    assert worker.stderr is None
    shop.await_log("not ready", worker)
    assert shop.terminate(worker, 15) == 0, "not when the grace is over"
    assert worker.stdout is not None
    assert worker.stdout.read() == "", "it never said ready"
    shop.close()


# --------------------------------------------------------------------------------------------------------- SIGKILL


@everywhere
async def test_in_doubt_after_a_kill_is_exactly_what_was_claimed_and_not_settled(empty_world: World) -> None:
    """Mutants: claim more than there are slots; forget one; start one again."""
    world, shop = empty_world, empty_world.shop
    await world.send("notifications.send", [notification(f"early-{i}") for i in range(30)])
    first = shop.start("--worker-ttl", str(TTL))
    await come_to(world, "notifications.send", "early-", *["done"] * 30)
    await world.send("notifications.send", [notification(f"k-{i}", "unknown") for i in range(100)])
    await written(world, 30 + SLOTS)
    shop.kill(first)
    begun = {line["key"] for line in shop.lines() if line["key"].startswith("k-")}
    assert len(begun) == SLOTS

    shop.start()
    await written(world, 30 + 100)
    await come_to(world, "notifications.send", "k-", *["in_doubt"] * SLOTS, *["running"] * (100 - SLOTS))
    doubted = shop.listed("--state", "in_doubt")
    assert {row["key"] for row in doubted} == begun
    assert all(row["attempts"] == 1 for row in doubted)
    keys = [line["key"] for line in shop.lines()]
    assert len(keys) == len(set(keys)) == 130, "nobody is told twice"
    assert await states(world, "notifications.send", "early-") == ["done"] * 30

    async def all_have_bytes() -> bool:
        return all(row["has_bytes"] for row in shop.listed("--state", "in_doubt"))

    await until(all_have_bytes, 15, "every doubt holds its message")


@pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES], indirect=True)
async def test_three_ways_to_end_a_doubt(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    keys = ["as-done", "as-not-done", "as-dead"]
    await world.send("notifications.send", [notification(key, "unknown") for key in keys])
    first = shop.start("--worker-ttl", str(TTL))
    await written(world, 3)
    shop.kill(first)
    shop.start()
    await come_to(world, "notifications.send", "as-", *["in_doubt"] * 3)

    without_reason = shop.command("inbox", "resolve", "as-done", "--as", "done")
    assert without_reason.returncode == 2
    for key in keys:
        shop.ok("inbox", "resolve", key, "--as", key.removeprefix("as-"), "--reason", "I have asked them")
    await come_to(world, "notifications.send", "as-", "done", "running", "dead")
    [one, two] = told(world, "notifications.send", "as-not-done")
    assert two["token"] > one["token"]
    assert (two["idempotency_key"], two["attempt"]) == (one["idempotency_key"], 2)
    assert (
        len(told(world, "notifications.send", "as-done"))
        == len(told(world, "notifications.send", "as-dead"))
        == 1
    )
    again = shop.command("inbox", "resolve", "as-done", "--as", "dead", "--reason", "x")
    assert again.returncode == 1
    assert "done" in again.stderr, "it says which state it is in"
    assert "I have asked them" in [line["reason"] for line in shop.shown("as-done")["story"]]


@on_postgres
async def test_claims_are_not_adopted_before_the_time_to_live(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    await world.send("notifications.send", [notification("held", "unknown")])
    shop.start("--worker-ttl", "6")
    shop.start("--worker-ttl", "6")
    await written(world, 1)
    owner = next(w for w in shop.workers if w.pid == shop.lines()[0]["pid"])
    shop.kill(owner)
    [(beat,)] = await world.query(f"select beat_at from consumer_workers where about like '%:{owner.pid}'")
    await come_to(world, "notifications.send", "held", "in_doubt")
    [(now,)] = await world.query("select clock_timestamp()")
    assert (now - beat).total_seconds() >= 6, (
        "after its time-to-live, counted from its last beat, by the store's clock"
    )


# ----------------------------------------------------------------------------------------------- groups and starts


@on_kafka
async def test_a_consumer_group_has_exactly_the_name_that_it_was_given(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    assert isinstance(world, KafkaOnPostgres)
    await world.send("payments.requested", [payment(f"g-{i}") for i in range(50)])
    for group in ("night shift.1", "another"):
        worker = shop.start("--group", group)

        async def all_acked(group: str = group) -> bool:
            offsets = await committed(world.bootstrap, group)
            return sum(n for (topic, _), n in offsets.items() if topic == "payments.requested") == 50

        await until(all_acked, 30, lambda: f"50 messages from the earliest on\n{shop.logs()}")
        assert shop.terminate(worker) == 0
    assert await committed(world.bootstrap, "shop") == {}
    assert await count(world, "select count(*) from ledger") == 50, "the second group saw duplicates"


@alone_and_in_company
async def test_two_migrations_at_once(empty_world: World) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: empty_world.shop.command("migrate", empty_world.shop.app), range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], done


@pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES], indirect=True)
async def test_the_application_without_transactions_runs_alone(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    shop.app = "handlers.notify:app"
    shop.migrate()
    shop.start()
    settled = payment("s-1") | {"settled_at": "2025-01-01T00:00:00.000Z"}
    await world.send("payments.settled", [settled, settled])
    await world.send("receipts.send", [{"receipt_id": "r-1", "payment_id": "s-1", "fail_times": 1}])
    await come_to(world, "payments.settled", "s-1", "done")
    await come_to(world, "receipts.send", "r-1", "done")
    assert len(told(world, "payments.settled", "s-1")) == len(told(world, "receipts.send", "r-1")) == 1


@alone_and_in_company
async def test_ready_says_what_it_runs_and_a_restart_repeats_nothing(empty_world: World) -> None:
    world, shop = empty_world, empty_world.shop
    await world.send("payments.requested", [payment("again")])
    for _ in range(2):
        worker = shop.start()
        assert "shop: 5 handlers" in shop.ready
        assert str(worker.pid) in shop.ready
        await world.send("payments.requested", [payment("again")])
        await come_to(world, "payments.settled", "again", "done")
        assert shop.terminate(worker) == 0
    assert len(await ledger(world, "again")) == 1
    assert len(shop.lines()) == 1
