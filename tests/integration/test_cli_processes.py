"""`consumer run --processes N` as a user has it: processes, signals, one SQLite file."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

APP = """
import os
from msgspec import Struct
from consumer import App, AtMostOnce, Key, Transactional, Tx

app = App("shop")
app.schema(sqlite=["create table if not exists ledger (payment_id text, pid integer)"])

class Payment(Struct):
    payment_id: str

@app.on("payments", key=Key.field("payment_id"), mode=Transactional())
async def pay(payment: Payment, tx: Tx) -> None:
    await tx.execute("insert into ledger values ($1, $2)", payment.payment_id, os.getpid())

@app.on("mails", key=Key.field("payment_id"), mode=AtMostOnce())
async def mail(payment: Payment) -> None:
    print("mail " + payment.payment_id, flush=True)
"""
PATIENCE = 40.0


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(APP)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("CONSUMER_")}
        self.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        self.run: subprocess.Popen[str] | None = None

    def __call__(self, *arguments: str, text: str | None = None) -> None:
        subprocess.run(
            [sys.executable, "-m", "consumer", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=text,
            text=True,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )

    def publish(self, topic: str, names: list[str]) -> None:
        lines = "".join(f'{{"payment_id":"{name}"}}\n' for name in names)
        self("publish", "shop:app", topic, "--file", "-", text=lines)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / "log").open("w") as log:
            self.run = subprocess.Popen(
                [sys.executable, "-m", "consumer", "run", "shop:app", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self.run

    def line(self) -> str:
        assert self.run is not None
        assert self.run.stdout is not None
        return self.run.stdout.readline()

    def count(self, sql: str) -> int:
        with closing(sqlite3.connect(self.folder / "consumer.db", timeout=10)) as connection:
            return int(connection.execute(sql).fetchone()[0])

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    one = Shop(tmp_path)
    one("migrate", "shop:app")
    yield one
    if one.run is not None:
        one.run.kill()
        one.run.communicate()


def until(condition, what) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


def test_three_processes_share_one_file_and_a_dead_one_is_replaced(shop: Shop):
    run = shop.start("--processes", "3", "--worker-ttl", "2")
    line = shop.line()
    assert line.startswith("ready shop: 3 processes, 2 handlers, store sqlite:///consumer.db"), shop.log()
    before = children(run.pid)
    assert len(before) == 3
    shop.publish("payments", [f"p-{number}" for number in range(300)])
    until(lambda: shop.count("select count(*) from ledger") > 20, shop.log)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(children(run.pid)) - {before[0]}) == 3, shop.log)
    shop.publish("payments", [f"p-{number}" for number in range(250, 400)])
    until(lambda: shop.count("select count(*) from ledger") >= 400, shop.log)
    shop.publish("mails", ["m-1"])
    assert shop.line() in {f"[{number}] mail m-1\n" for number in (1, 2, 3)}
    run.send_signal(signal.SIGTERM)
    assert run.wait(PATIENCE) == 0, shop.log()
    assert shop.count("select count(*) from ledger") == 400
    assert shop.count("select count(distinct payment_id) from ledger") == 400
    assert shop.line() == "", "ready is said once"
    assert "was killed by SIGKILL; starting it again" in shop.log()


def test_children_do_not_outlive_a_supervisor_that_is_killed(shop: Shop):
    run = shop.start("--processes", "2")
    assert shop.line().startswith("ready"), shop.log()
    orphans = children(run.pid)
    run.kill()
    run.wait()
    until(lambda: not any(alive(pid) for pid in orphans), lambda: f"{orphans} live on\n{shop.log()}")
    assert shop.count("select count(*) from consumer_workers where state = 'open'") == 0, (
        "they ended in order"
    )


def test_ctrl_c_on_a_terminal_ends_all_in_order(shop: Shop):
    run = shop.start("--processes", "2")
    assert shop.line().startswith("ready"), shop.log()
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE) == 0, shop.log()


def test_tables_that_are_missing_are_said_once(shop: Shop):
    run = shop.start("--processes", "3", "--store", "sqlite:///other.db")
    assert run.wait(PATIENCE) == 78
    assert shop.log().count("consumer migrate") == 1
