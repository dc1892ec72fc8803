"""`make demo`: duplicates, a SIGKILL half-way, a restart, and the books; then one payment by all ways in at once.

Runs the reference application on its embedded default (SQLite, no servers) in a temporary folder: publishes a stream in
which a third of the messages are duplicates, kills the worker with SIGKILL when half of the payments are taken, starts it
again, waits until nothing is left to do, and prints what happened. Then, in a folder of its own, one payment is sent by
HTTP, by two webhooks and to its topic, many times each and all at once. The last line is everything as JSON.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from handlers.demo_ways import PAYMENT, STANDARD_SECRET, STRIPE_SECRET, TIMES, send_by_all_ways

__all__ = ["main"]

UNIQUE = 3_000
DUPLICATES = 1_500
SEED = 2026
PATIENCE = 45.0
"""Seconds after which the demo gives up and says so."""

APP = "handlers.app:app"


def main() -> int:
    """Run the demo; return the exit code: 0 when the money adds up."""
    with tempfile.TemporaryDirectory(prefix="consumer-demo-") as folder:
        here = Path(folder)
        stream, total = _write_stream(here / "stream.jsonl")
        demo = _Demo(here)
        _say(f"1. Publish {stream} payment messages, {DUPLICATES} of them duplicates, into a SQLite file.")
        demo.consumer("migrate", APP)
        demo.consumer("publish", APP, "payments.requested", "--file", str(here / "stream.jsonl"))
        _say(f"2. Start a worker, and kill it with SIGKILL when half of the {UNIQUE} payments are taken.")
        taken = demo.run_until_killed(UNIQUE // 2)
        _say(f"   killed with {taken} rows in the ledger.")
        _say("3. Start it again, and let it finish.")
        demo.run_to_the_end()
        summary, good = _report(demo.books(), stream, total)
        ways, once = _one_payment_by_all_ways(here / "ways")
    sys.stdout.write(json.dumps({**summary, "all_ways": ways}) + "\n")
    return 0 if good and once else 1


def _one_payment_by_all_ways(here: Path) -> tuple[dict[str, Any], bool]:
    """Take one payment by every way in at once; return what was counted, and whether it was taken once."""
    here.mkdir()
    demo = _Demo(here)
    _say("")
    _say(f"4. Send one payment by HTTP, two webhooks and its topic, {TIMES} times each, all at once.")
    demo.consumer("migrate", APP)
    lines = here / "once.jsonl"
    lines.write_text((json.dumps(PAYMENT) + "\n") * TIMES, encoding="utf-8")
    answers = demo.run_ingest(
        lambda address: send_by_all_ways(
            address, lambda: demo.consumer("publish", APP, "payments.requested", "--file", str(lines))
        )
    )
    books = demo.books()
    landed = answers["stripe 200"] + answers["standard 200"]
    told = answers["http 201"] + answers["http 201 replayed"]
    once = (told, landed, answers["different bodies"]) == (TIMES, 2 * TIMES, 1)
    once = once and books["ledger_rows"] == books["published"] == books["told"] == 1
    _say(f"answered    {told + landed:>8,}   requests with 2xx; POST /payments always with the same bytes")
    _say(f"handled     {books['ledger_rows']:>8,}   row in the ledger, of {4 * TIMES} arrivals")
    _say(
        f"told        {books['told']:>8,}   payer told of it: {'it was taken once' if once else 'NOT TAKEN ONCE'}"
    )
    figures = {"sent": 4 * TIMES, "ledger_rows": books["ledger_rows"], "told": books["told"], **answers}
    return figures, once


def _write_stream(path: Path) -> tuple[int, int]:
    """Write the stream; return how many messages it has and what its unique payments add up to."""
    chance = random.Random(SEED)
    payments: list[dict[str, Any]] = [
        {
            "payment_id": f"p-{i:05}",
            "account": f"account-{chance.randrange(50):02}",
            "amount": chance.randrange(1, 100_000),
            "currency": "EUR",
        }
        for i in range(UNIQUE)
    ]
    messages = payments + [chance.choice(payments) for _ in range(DUPLICATES)]
    chance.shuffle(messages)
    path.write_text("".join(json.dumps(message) + "\n" for message in messages), encoding="utf-8")
    return len(messages), sum(payment["amount"] for payment in payments)


class _Demo:
    """The application as processes, in one folder."""

    def __init__(self, here: Path) -> None:
        self._database = here / "demo.db"
        self._effects = here / "effects.jsonl"
        self._environment = os.environ | {
            "CONSUMER_STORE": f"sqlite:///{self._database}",
            "CONSUMER_BROKER": "embedded:",
            "SHOP_EFFECTS": str(self._effects),
            "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
            "STANDARD_WEBHOOK_SECRET": STANDARD_SECRET,
        }

    def consumer(self, *arguments: str) -> None:
        """Run one command of the CLI; a failure ends the demo with what it said."""
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "consumer", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"consumer {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")

    def run_until_killed(self, rows: int) -> int:
        """Start a worker, kill it when the ledger has so many rows; return how many it has then."""
        with self._process("run") as (worker, _):
            self._wait_for(lambda: self.rows() >= rows, "the first half of the payments")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        return self.rows()

    def run_to_the_end(self) -> None:
        """Start a worker, wait until every entry is at rest, stop it with SIGTERM."""
        with self._process("run") as (worker, _):
            self._wait_for(lambda: self.rows() >= UNIQUE and not self._unfinished(), "the rest")
            worker.send_signal(signal.SIGTERM)
            code = worker.wait(timeout=PATIENCE)
            if code:
                raise SystemExit(f"the worker ended with exit code {code}; see its log above")

    def run_ingest(self, send: Callable[[str], Counter[str]]) -> Counter[str]:
        """Start an ingest and a worker, let `send` have the address, wait until all is at rest, stop both."""
        with self._process("ingest", "--port", "0") as (ingest, ready), self._process("run") as (worker, _):
            answers = send(_address(ready))
            self._wait_for(lambda: self.rows() and not self._unfinished(), "the payment")
            for process in (ingest, worker):
                process.send_signal(signal.SIGTERM)
            if ingest.wait(timeout=PATIENCE) or worker.wait(timeout=PATIENCE):
                raise SystemExit("the ingest or the worker did not end well")
        return answers

    def rows(self) -> int:
        """How many rows the ledger has."""
        return int(self._query("select count(*) from ledger")[0][0])

    def books(self) -> dict[str, Any]:
        """Everything that is counted at the end, from the tables and the effects file."""
        states: dict[tuple[str, int], int] = {
            (handler, state): n
            for handler, state, n in self._query(
                "select handler, state, count(*) from consumer_inbox group by handler, state"
            )
        }
        lines = [json.loads(line) for line in self._effects.read_text(encoding="utf-8").splitlines()]
        by_key = Counter(line["key"] for line in lines)
        return {
            "entries": sum(n for (handler, _), n in states.items() if handler == "payments.requested"),
            "ledger_rows": self.rows(),
            "ledger_keys": int(self._query("select count(distinct payment_id) from ledger")[0][0]),
            "ledger_total": int(self._query("select sum(amount) from ledger")[0][0]),
            "published": sum(n for (handler, _), n in states.items() if handler == "payments.settled"),
            "told": len(by_key),
            "told_twice": sum(n > 1 for n in by_key.values()),
            "in_doubt": sum(n for (_, state), n in states.items() if state == _IN_DOUBT),
            "dead": sum(n for (_, state), n in states.items() if state == _DEAD),
        }

    def _unfinished(self) -> int:
        return int(
            self._query(
                f"select count(*) from consumer_inbox where state not in ({_DONE}, {_IN_DOUBT}, {_DEAD})"
            )[0][0]
        )

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    @contextmanager
    def _process(self, verb: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """Start a process that serves, and wait for the line that says so."""
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "consumer", verb, APP, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.startswith("ready"):
                raise SystemExit(f"{verb} did not start: {line!r}, exit code {process.wait(timeout=10)}")
            yield process, line
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    @staticmethod
    def _wait_for(condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"{what} did not come within {PATIENCE:g} s")
            time.sleep(0.01)


_DONE, _IN_DOUBT, _DEAD = 4, 5, 6


def _address(ready: str) -> str:
    """Return the address in the line that an ingest prints when it is ready."""
    found = re.search(r"http://[0-9.:]+", ready)
    if found is None:
        raise SystemExit(f"the ingest names no address: {ready!r}")
    return found[0]


def _report(books: dict[str, Any], stream: int, total: int) -> tuple[dict[str, Any], bool]:
    adds_up = books["ledger_total"] == total and books["ledger_rows"] == books["ledger_keys"] == UNIQUE
    summary = {
        "received": stream,
        "unique": UNIQUE,
        "handled": books["ledger_rows"],
        "suppressed": stream - books["entries"],
        "in_doubt": books["in_doubt"],
        "dead": books["dead"],
        "published": books["published"],
        "told": books["told"],
        "told_twice": books["told_twice"],
        "ledger_total": books["ledger_total"],
        "expected_total": total,
        "adds_up": adds_up,
    }
    _say("")
    _say(f"received    {stream:>8,}   payment messages")
    _say(f"unique      {UNIQUE:>8,}   different payment ids among them")
    _say(
        f"handled     {books['ledger_rows']:>8,}   rows in the ledger, one per payment (the table has no unique constraint)"
    )
    _say(f"suppressed  {summary['suppressed']:>8,}   duplicates that started nothing")
    _say(f"published   {books['published']:>8,}   payments.settled messages, each committed with its payment")
    _say(
        f"told        {books['told']:>8,}   payers told of it (at most once each; told twice: {books['told_twice']})"
    )
    _say(
        f"in doubt    {books['in_doubt']:>8,}   were being told when the worker was killed: nobody knows, so nothing is repeated,"
    )
    _say(
        "                       and each is listed until somebody says: consumer inbox list --state in_doubt"
    )
    _say(
        f"the money   {books['ledger_total']:>8,}   of {total:,} expected: {'it adds up' if adds_up else 'IT DOES NOT ADD UP'}"
    )
    good = adds_up and books["told_twice"] == 0 and books["published"] == UNIQUE
    return summary, good


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
