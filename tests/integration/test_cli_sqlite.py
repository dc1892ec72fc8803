"""The command line as a user has it: processes, an SQLite file, signals. The checkout is not the working directory."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumer.entry import Claim, Kind, OnLapse, Settle, Won
from consumer.message import Outgoing
from consumer.stores import open_store

APP = """
import asyncio, os, time
from msgspec import Struct
from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Reject, Transactional, Tx

app = App("shop")
app.schema(sqlite=["create table if not exists ledger (tenant text, payment_id text)"])

class Payment(Struct):
    payment_id: str
    amount: int = 1

class Mail(Struct):
    mail_id: str
    fate: str = "sent"

@app.on("payments", key=Key.field("payment_id"), mode=Transactional(), tenant=Key.header("tenant"))
async def pay(payment: Payment, ctx: Context, tx: Tx) -> dict[str, str]:
    if payment.amount <= 0:
        raise Reject("amount must be positive")
    await tx.execute("insert into ledger values ($1, $2)", ctx.tenant, payment.payment_id)
    ctx.publish("settled", payment)
    return {"paid": payment.payment_id}

@app.on("settled", key=Key.field("payment_id"), mode=AtMostOnce())
async def tell(payment: Payment) -> None:
    pass

@app.on("mails", key=Key.field("mail_id"), mode=AtMostOnce(), timeout=3600)
async def send(mail: Mail) -> None:
    with open("started", "a") as file:
        file.write(mail.mail_id + "\\n")
    if mail.fate == "hangs":
        await asyncio.Event().wait()
    if mail.fate == "blocks":
        time.sleep(3600)
    if mail.fate == "deaf":
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
    if mail.fate == "raises":
        raise ConnectionError("no answer")

other = App("bank")

@other.on("mails", key=Key.field("mail_id"), mode=AtLeastOnce(retry=Backoff(2, first=0.05)))
async def fail(mail: Mail) -> None:
    raise RuntimeError("always")
"""

PATIENCE = 30.0


class Shop:
    """A user's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CONSUMER_")
        } | {"PYTHONUNBUFFERED": "1"}

    def __call__(
        self, *arguments: str | bytes, code: int = 0, **given: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "consumer", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **given,
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    @contextmanager
    def worker(self, *arguments: str, app: str = "shop:app") -> Iterator[subprocess.Popen[str]]:
        """A worker that is ready; killed at the end if it still lives."""
        worker = self.start("run", app, *arguments)
        try:
            assert worker.stdout is not None
            line = worker.stdout.readline()
            assert line.startswith("ready"), worker.communicate()
            yield worker
        finally:
            worker.kill()
            worker.communicate()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "consumer", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def entries(self, *arguments: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self("inbox", "list", "-o", "json", *arguments).stdout)
        return rows

    def show(self, key: str, *arguments: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(self("inbox", "show", key, "-o", "json", *arguments).stdout)
        return shown

    def count(self, sql: str) -> int:
        with closing(sqlite3.connect(self.folder / "consumer.db", timeout=10)) as connection:
            return int(connection.execute(sql).fetchone()[0])

    def started(self) -> int:
        file = self.folder / "started"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made("migrate", "shop:app")
    return made


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)  # another process: there is no event to await


def at_rest(shop: Shop, handler: str, count: int) -> Callable[[], bool]:
    return lambda: (
        shop.count(f"select count(*) from consumer_inbox where handler = '{handler}' and state in (4, 5, 6)")
        >= count
    )


def test_a_stream_with_duplicates_from_start_to_end(shop):
    lines = [
        '{"payment_id":"p-1"}',
        '{"payment_id":"p-1"}',
        "",
        "not json",
        '{"payment_id":"p-2","amount":-1}',
        '{"payment_id":"p-1","amount":2}',
    ]
    (shop.folder / "lines.jsonl").write_text("\n".join(lines))
    done = shop("publish", "shop:app", "payments", "--file", "lines.jsonl", "--key-field", "payment_id")
    assert done.stdout == "published 5\n"
    assert (
        shop("publish", "shop:app", "payments", '{"payment_id":"p-1"}', "--tenant", "acme").stdout
        == "published 1\n"
    )
    with shop.worker() as worker:
        wait_for(lambda: at_rest(shop, "payments", 5)() and at_rest(shop, "settled", 1)())
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=PATIENCE)
    assert (worker.returncode, out) == (0, "")
    assert shop.count("select count(*) from ledger") == 2
    warned = [json.loads(line) for line in err.splitlines()]
    assert any(line["message"].startswith("payments: dead") and len(line["key_hash"]) == 8 for line in warned)

    rows = shop.entries("--handler", "payments")
    assert sorted((row["tenant"], row["state"], row["keyed"]) for row in rows) == [
        ("acme", "done", True),
        ("public", "dead", False),
        ("public", "dead", False),
        ("public", "dead", True),
        ("public", "done", True),
    ]
    assert {row["app"] for row in rows} == {"shop"}
    # p-1 is three entries of two handlers and two tenants, and the key of a conflict
    several = shop("inbox", "show", "p-1", code=4)
    assert several.stdout == ""
    assert "settled" in several.stderr
    assert "acme" in several.stderr
    shown = shop.show("p-1", "--handler", "payments", "--tenant", "public")
    assert (shown["state"], shown["result"], shown["attempts"]) == ("done", {"paid": "p-1"}, 1)
    assert shop.show(shown["id"])["id"] == shown["id"]
    [conflict] = [row for row in rows if row["reason"] and row["reason"].startswith("conflict")]
    assert shop.show(conflict["id"])["message"]["value"] == lines[-1]
    people = shop("inbox", "list").stdout
    assert conflict["id"] in people
    assert shown["id"] not in people
    assert len(shop.entries("--state", "dead", "--state", "done", "--limit", "2")) == 2
    assert shop("inbox", "list", "-o", "jsonl", "--state", "waiting").stdout == ""


def test_a_dead_letter_is_redriven_and_an_entry_that_is_done_is_not(shop):
    shop("publish", "shop:app", "payments", '{"payment_id":"p-2","amount":0}')
    with shop.worker():
        wait_for(at_rest(shop, "payments", 1))
        dead = shop.show("p-2")
        assert (dead["state"], dead["reason"]) == ("dead", "amount must be positive")
        assert "is dead" in shop("inbox", "resolve", "p-2", "--as", "done", "--reason", "x", code=1).stderr
        shop("inbox", "redrive", "p-2", "--reason", "look again")
        wait_for(lambda: len(shop.show("p-2")["story"]) >= 3)
    again = shop.show("p-2")
    assert [line["event"] for line in again["story"]] == ["bury", "redrive", "bury"]
    assert again["token"] > dead["token"]
    shop("inbox", "redrive", "nobody", "--reason", "x", code=3)


def test_sigterm_and_a_handler_that_never_returns(shop):
    shop("publish", "shop:app", "mails", '{"mail_id":"m-1","fate":"hangs"}')
    with shop.worker("--grace", "0.5") as worker:
        wait_for(lambda: shop.started() == 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=PATIENCE) == 1
    assert shop.show("m-1")["state"] == "in_doubt"
    shop("inbox", "redrive", "m-1", "--reason", "x", code=1)
    shop("inbox", "resolve", "m-1", "--as", "done", "--reason", "seen", "--result", '{"id":9}')
    resolved = shop.show("m-1")
    assert (resolved["state"], resolved["result"]) == ("done", {"id": 9})
    assert resolved["story"][-1]["event"] == "resolve"
    assert resolved["story"][-1]["reason"] == "seen"


def test_a_handler_that_is_deaf_does_not_keep_the_process(shop):
    shop("publish", "shop:app", "mails", '{"mail_id":"m-1","fate":"deaf"}')
    with shop.worker("--grace", "0.2") as worker:
        wait_for(lambda: shop.started() == 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=PATIENCE) == 1


@pytest.mark.parametrize("fate", ["hangs", "blocks"])
def test_a_second_signal_ends_it_at_once(shop, fate):
    shop("publish", "shop:app", "mails", f'{{"mail_id":"m-1","fate":"{fate}"}}')
    with shop.worker("--grace", "600") as worker:
        wait_for(lambda: shop.started() == 1)
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(timeout=0.5)  # it drains
        worker.send_signal(signal.SIGINT)
        assert worker.wait(timeout=PATIENCE) == 1


def test_after_a_sigkill_the_key_is_in_doubt_and_may_be_started_once_more(shop):
    shop("publish", "shop:app", "mails", '{"mail_id":"m-1","fate":"hangs"}')
    with shop.worker() as worker:
        wait_for(lambda: shop.started() == 1)
        worker.kill()
        worker.wait()
    assert shop.show("m-1")["state"] == "running"
    with shop.worker("--worker-ttl", "1"):
        wait_for(at_rest(shop, "mails", 1))
        assert [row["key"] for row in shop.entries("--state", "in_doubt")] == ["m-1"]
        assert shop.started() == 1
        shop("inbox", "resolve", "m-1", "--as", "not-done", "--reason", "nothing arrived")
        wait_for(lambda: shop.started() == 2)


def test_what_raises_is_in_doubt_with_its_reason_and_bytes(shop):
    shop("publish", "shop:app", "mails", '{"mail_id":"m-1","fate":"raises"}', "--header", "origin=test")
    with shop.worker():
        wait_for(at_rest(shop, "mails", 1))
    shown = shop.show("m-1")
    assert (shown["state"], shown["reason"]) == ("in_doubt", "ConnectionError: no answer")
    assert shown["message"]["value"] == '{"mail_id":"m-1","fate":"raises"}'
    assert {"name": "origin", "value": "test", "value_encoding": "text"} in shown["message"]["headers"]


def test_two_apps_in_one_store_are_told_apart(shop):
    shop("publish", "shop:app", "mails", '{"mail_id":"m-1"}')
    shop("publish", "shop:other", "mails", '{"mail_id":"m-1"}')
    for arguments in (("list",), ("show", "m-1"), ("redrive", "m-1", "--reason", "x")):
        done = shop("inbox", *arguments, code=4)
        assert "bank, shop" in done.stderr
        assert done.stdout == ""
    assert [row["app"] for row in shop.entries("--app", "bank")] == ["bank"]
    assert shop.show("m-1", "--app", "shop")["app"] == "shop"
    shop("inbox", "list", "--app", "bakery", code=3)


def test_a_retried_entry_ends_dead_and_purge_leaves_it(shop):
    shop("publish", "shop:other", "mails", '{"mail_id":"m-1"}')
    with shop.worker(app="shop:other"):
        wait_for(at_rest(shop, "mails", 1))
    assert (shop.show("m-1")["state"], shop.show("m-1")["attempts"]) == ("dead", 2)
    assert shop("inbox", "purge", "--handler", "mails", "--older-than", "0s").stdout == "purged 0\n"


def test_purge_forgets_what_is_done_and_old_enough(shop):
    shop("publish", "shop:app", "settled", "--file", "-", input='{"payment_id":"a"}\n{"payment_id":"b"}\n')
    with shop.worker():
        wait_for(at_rest(shop, "settled", 2))
    assert shop("inbox", "purge", "--handler", "settled", "--older-than", "1h").stdout == "purged 0\n"
    assert shop("inbox", "purge", "--handler", "settled", "--older-than", "0s").stdout == "purged 2\n"
    shop("inbox", "show", "a", code=3)


def test_a_key_of_any_bytes_is_found(shop):
    with closing(sqlite3.connect(shop.folder / "consumer.db")) as connection, connection:
        shop("publish", "shop:app", "settled", '{"payment_id":"\\u00e4 "}')
        connection.execute("update consumer_inbox set key = ?", (b"\xff",))
    done = shop("inbox", "show", b"\xff", "-o", "json")
    assert (json.loads(done.stdout)["key"], json.loads(done.stdout)["key_hex"]) == ("\\xff", "ff")
    shop("inbox", "show", b"\xfe", code=3)


def test_a_worker_waits_for_a_store_that_is_away_and_can_be_stopped_meanwhile(shop):
    worker = shop.start("run", "shop:app", "--store", "postgresql://user:hunter2@127.0.0.1:1/db")
    try:
        assert worker.stderr is not None
        first = json.loads(worker.stderr.readline())
        assert "not ready" in first["message"]
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=PATIENCE)
    finally:
        worker.kill()
        worker.wait()
    assert (worker.returncode, out) == (0, "")
    assert "hunter2" not in err + first["message"]


def test_a_worker_without_tables_names_the_command(shop):
    done = shop("run", "shop:app", "--store", "sqlite:///empty.db", code=78)
    assert "`consumer migrate shop:app --store sqlite:///empty.db`" in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_verb_that_ends_by_itself_does_not_wait_for_a_store(shop):
    done = shop("inbox", "list", "--store", "postgresql://user:hunter2@127.0.0.1:1/db", code=69)
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


def test_a_reader_that_leaves_is_no_bug(shop):
    rows = "".join(f'{{"payment_id":"{i}"}}\n' for i in range(3000))
    assert shop("publish", "shop:app", "settled", "--file", "-", input=rows).stdout == "published 3000\n"
    lister = shop.start("inbox", "list", "-o", "jsonl")
    assert lister.stdout is not None
    assert lister.stderr is not None
    lister.stdout.readline()
    lister.stdout.close()
    assert lister.wait(timeout=PATIENCE) == 1
    assert lister.stderr.read() == ""
    lister.stderr.close()


@pytest.mark.parametrize(
    ("topic", "value", "starts", "state"),
    [
        ("payments", '{"payment_id":"p-1"}', 2, "done"),
        ("mails", '{"mail_id":"m-1"}', 1, "in doubt"),
        ("mails", '{"mail_id":7}', 0, None),
    ],
)
def test_try_shows_what_the_mode_makes_of_a_kill(shop, topic, value, starts, state):
    done = shop("try", "shop:app", topic, value)
    first, _, killed = done.stdout.partition("killed (SIGKILL)")
    if state is None:
        assert "state         dead" in first
        assert "there is nothing to kill" in killed
        return
    assert "started       1 time\n" in first
    assert "state         done" in first
    assert "not counted" not in first
    assert ("1 start in a group that was rolled back" in killed) == (starts == 2)
    assert f"started       {starts} time" in killed
    assert f"state         {state}" in killed


def test_try_of_a_topic_that_nobody_subscribes_to(shop):
    assert "there are: mails, payments, settled" in shop("try", "shop:app", "mail", "{}", code=3).stderr


async def park_one_of_two(database: Path) -> None:
    """Commit an entry with two outgoing messages, of which the sink refuses the first."""
    store = open_store(f"sqlite:///{database}", "shop")
    await store.open()
    try:
        worker = await store.workers.open(15.0, "a test")
        key = Claim(b"k" * 16, "public", "settled", b"a", bytes(16), 1, OnLapse.WAITING, 5)
        _, [won] = await store.inbox.turn(worker, [], [key])
        assert isinstance(won, Won)
        outgoing = (
            Outgoing(b"\x01" * 16, "refused", b"\xff", (("h", b"1"),), "acc"),
            Outgoing(b"\x02" * 16, "fine", b"{}"),
        )
        await store.inbox.turn(
            worker, [Settle(key.identity, won.token, Kind.COMPLETE, outgoing=outgoing)], []
        )
        first, _ = await store.outbox.take(worker, 10)
        await store.outbox.park([(first.seq, "too large")])
        await store.workers.close(worker)
    finally:
        await store.close()


async def test_what_the_broker_refused_is_seen_and_sent_again(shop):
    await park_one_of_two(shop.folder / "consumer.db")
    parked, waiting = json.loads(shop("outbox", "list", "-o", "json").stdout)
    assert (parked["topic"], parked["parked"], parked["ordering_key"]) == ("refused", "too large", "acc")
    assert (waiting["topic"], waiting["parked"]) == ("fine", None)
    assert [
        json.loads(shop("outbox", "list", kind, "-o", "jsonl").stdout) for kind in ("--parked", "--waiting")
    ] == [
        parked,
        waiting,
    ]
    assert parked["app"] == "shop"
    assert json.loads(shop("outbox", "list", "--app", "shop", "-o", "json").stdout) == [parked, waiting]
    for verb in (["list"], ["show", parked["id"]], ["redrive", parked["id"]]):
        assert "shop" in shop("outbox", *verb, "--app", "bank", code=3).stderr, "it says which apps there are"
    for name in (str(parked["seq"]), parked["id"]):
        shown = json.loads(shop("outbox", "show", name, "-o", "json").stdout)
        assert (shown["value"], shown["value_encoding"]) == ("/w==", "base64")
        assert shown["headers"] == [{"name": "h", "value": "1", "value_encoding": "text"}]
    assert "is not parked" in shop("outbox", "redrive", parked["id"], waiting["id"], code=1).stderr
    assert shop("outbox", "redrive", parked["id"]).stdout == "redriven 1\n"
    assert shop("outbox", "list", "--parked").stdout == ""


def test_an_empty_outbox(shop):
    assert json.loads(shop("outbox", "list", "-o", "json").stdout) == []
    shop("outbox", "show", "1", code=3)
    shop("outbox", "redrive", "1", code=3)
