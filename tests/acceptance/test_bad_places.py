"""A store or a broker that is not what it should be: one clear line and an exit code, or patience; never a traceback."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.acceptance.looks import payment
from tests.acceptance.shop import Shop, fresh_shop_topics, rows, until
from tests.services import Kafka, Postgres

pytestmark = pytest.mark.timeout(90)

CLOSED = "127.0.0.1:9"  # nobody listens on the discard port


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with `code`, and says each of `words` on few lines."""
    assert done.returncode == code, done
    assert done.stdout == "", done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert len(done.stderr) < 1_000, done.stderr


# ------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("mysql://a@b/c", ["mysql", "postgresql://", "sqlite://"]),
        ("shop.db", ["shop.db", "sqlite:///"]),
        ("", ["store"]),
        ("postgresql://u:hushhush@h:port/db", ["port"]),
        ("postgresql://u:hushhush@h:99999/db", ["99999"]),
        ("sqlite:////nowhere/at/all/shop.db", ["/nowhere/at/all"]),
        ("memory:", ["payments.requested", "postgresql://", "sqlite://"]),
    ],
)
def test_a_store_url_that_cannot_be_one(tmp_path: Path, store: str, words: list[str]) -> None:
    shop = Shop(tmp_path, store=store)
    done = shop.command("run", shop.app)
    refused(done, 78, *words)
    assert "hushhush" not in done.stderr


@pytest.mark.parametrize(
    "broker", ["kafka:/x", "amqp://h:1", "kafka://h", "kafka://h:0", "kafka://", "h:9092", ""]
)
def test_a_broker_url_that_cannot_be_one(tmp_path: Path, broker: str) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db")
    shop.migrate()
    shop.environment["CONSUMER_BROKER"] = broker
    refused(shop.command("run", shop.app), 78, "broker", broker.removeprefix("kafka://"))


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db")
    for verb in (["run", shop.app], ["publish", shop.app, "payments.requested", "{}"], ["inbox", "list"]):
        refused(shop.command(*verb), 78, "consumer migrate")
    assert not (tmp_path / "shop.db").exists(), "asking makes no file"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"These are minutes of a meeting.\n" * 100)
    shop = Shop(tmp_path, store="sqlite:///shop.db")
    for verb in ("run", "migrate"):
        refused(shop.command(verb, shop.app), 78, "shop.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db")
    shop.migrate()
    (tmp_path / "shop.db").chmod(0o444)
    refused(shop.command("run", shop.app), 78, "shop.db")


@pytest.mark.parametrize(
    "store", [f"postgresql://u:hushhush@{CLOSED}/db", "postgresql://u@no-such-host.invalid/db"]
)
def test_one_shot_verbs_say_that_the_store_does_not_answer(tmp_path: Path, store: str) -> None:
    shop = Shop(tmp_path, store=store)
    for verb in (["migrate", shop.app], ["publish", shop.app, "payments.requested", "{}"], ["inbox", "list"]):
        begun = time.monotonic()
        done = shop.command(*verb)
        refused(done, 69)
        assert done.stderr.count("\n") == 1, done.stderr
        assert "hushhush" not in done.stderr
        assert time.monotonic() - begun < 30


def test_publishing_to_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db", broker=f"kafka://{CLOSED}")
    done = shop.command("publish", shop.app, "payments.requested", "{}")
    refused(done, 69, CLOSED)
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("away", ["store", "broker"])
def test_a_worker_waits_for_what_is_away(tmp_path: Path, away: str) -> None:
    store = f"postgresql://u@{CLOSED}/db" if away == "store" else "sqlite:///shop.db"
    shop = Shop(tmp_path, store=store, broker="embedded:" if away == "store" else f"kafka://{CLOSED}")
    if away == "broker":
        shop.migrate()
    worker = shop.begin()
    try:
        shop.await_log("not ready", worker, seconds=30)
        assert CLOSED in shop.log_of(worker)
        assert shop.terminate(worker) == 0
        assert "Traceback" not in shop.log_of(worker)
    finally:
        shop.close()


# ------------------------------------------------------------------------------------------------ Postgres and Kafka


@pytest.fixture
async def migrated(postgres_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path, store=postgres_url)
    shop.migrate()
    yield shop
    shop.close()


async def test_a_database_without_tables(postgres_url: str, tmp_path: Path) -> None:
    shop = Shop(tmp_path, store=postgres_url)
    for verb in (["run", shop.app], ["publish", shop.app, "payments.requested", "{}"], ["inbox", "list"]):
        refused(shop.command(*verb), 78, "consumer migrate")


async def test_a_database_or_a_role_that_does_not_exist(postgres_url: str, tmp_path: Path) -> None:
    for wrong in (postgres_url + "_nowhere", postgres_url.replace("postgres@", "nobody@")):
        shop = Shop(tmp_path, store=wrong)
        refused(shop.command("run", shop.app), 78, "does not exist")


@pytest.mark.parametrize("change", [-1, +1])
async def test_tables_of_another_version(migrated: Shop, postgres_url: str, change: int) -> None:
    sql = "insert into consumer_schema select max(version) + 1, 'of the future' from consumer_schema returning 1"
    if change < 0:
        sql = "delete from consumer_schema where version = (select max(version) from consumer_schema) returning 1"
    await rows(postgres_url, sql)
    done = migrated.command("run", migrated.app)
    refused(done, 78, "consumer migrate" if change < 0 else "newer")


async def test_a_database_that_only_reads(migrated: Shop, postgres: Postgres, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    await postgres.execute(f'alter database "{name}" set default_transaction_read_only = on')
    refused(migrated.command("run", migrated.app), 78, "read-only")


async def test_the_applications_own_tables_are_missing(migrated: Shop, postgres_url: str) -> None:
    """The framework's tables are there, the ledger is not: nothing is lost, and it goes on when it comes back."""
    await rows(postgres_url, "drop table ledger")
    migrated.publish("payments.requested", [payment("early")])
    worker = migrated.start()

    async def failed_once() -> bool:
        # Not by a command, which takes its time: after some seconds the attempts are spent.
        found = await rows(postgres_url, "select reason from consumer_inbox where state = 3")
        return any("ledger" in row["reason"] for row in found)

    await until(failed_once, 20, lambda: f"it has failed\n{migrated.logs()}")
    migrated.migrate()

    async def taken() -> bool:
        return len(await rows(postgres_url, "select 1 from ledger")) == 1

    await until(taken, 30, lambda: f"{migrated.shown('early')}\n{migrated.logs()}")
    assert worker.poll() is None


async def test_a_topic_that_does_not_exist(kafka: Kafka, postgres_url: str, tmp_path: Path) -> None:
    await fresh_shop_topics(kafka, partitions=1)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(["orders.placed"])

        async def gone() -> bool:
            return "orders.placed" not in await admin.list_topics()

        await until(gone, 20, "the topic is deleted")
    finally:
        await admin.close()
    shop = Shop(tmp_path, store=postgres_url, broker=f"kafka://{kafka.bootstrap}")
    shop.migrate()
    refused(shop.command("run", shop.app), 78, "orders.placed", "does not exist", "kafka-topics.sh")
    done = shop.command("publish", shop.app, "orders.placed", "{}")
    assert done.returncode == 1, done
    assert "orders.placed" in done.stderr
    assert "does not exist" in done.stderr


# -------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "wrong",
    [["--slots", "0"], ["--worker-ttl", "-1"], ["--grace", "-1"], ["--processes", "0"],
     ["--config", "missing.toml"]],
)  # fmt: skip
def test_settings_out_of_range(tmp_path: Path, wrong: list[str]) -> None:
    shop = Shop(tmp_path, store="sqlite:///shop.db")
    shop.migrate()
    refused(
        shop.command("run", shop.app, *wrong),
        78,
        wrong[0].lstrip("-").replace("-", "_").replace("config", "missing"),
    )


@pytest.mark.parametrize(
    "wrong", ["handlers", "handlers.app", "handlers.app:", "handlers.app:nothing", "handlers.none:app", "handlers.app:POSTGRES",
              "os:path"]
)  # fmt: skip
@pytest.mark.parametrize("verb", ["run", "check"])
def test_an_app_that_is_none(tmp_path: Path, wrong: str, verb: str) -> None:
    done = Shop(tmp_path, store="sqlite:///shop.db").command(verb, wrong)
    assert done.returncode in {2, 78}
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 4
