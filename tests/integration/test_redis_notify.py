"""The subscriptions without transactions, as processes on Redis; the others are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.rediskit import server

CHECKOUT = Path(__file__).parents[2]
CONSUMER = [sys.executable, "-m", "consumer"]
LIMIT = 40.0


@pytest.fixture
def environ(redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CONSUMER_STORE": redis_url,
        "CONSUMER_BROKER": "embedded:",
        "SHOP_EFFECTS": str(tmp_path / "effects.jsonl"),
    }


def consumer(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CONSUMER, *words],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        cwd=CHECKOUT,
        timeout=LIMIT,
    )


def start(environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [*CONSUMER, "run", "handlers.notify:app", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=CHECKOUT,
    )
    assert worker.stdout is not None
    while not (line := worker.stdout.readline()).startswith("ready"):
        assert line, worker.communicate()[1]
    return worker


def stop(worker: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> int:
    worker.send_signal(how)
    worker.communicate(timeout=LIMIT)
    return worker.returncode


def publish(environ: dict[str, str], folder: Path, topic: str, *values: object) -> None:
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    done = consumer(environ, "publish", "handlers.notify:app", topic, "--file", str(file))
    assert done.returncode == 0, done.stderr


def entries(environ: dict[str, str], *narrow: str) -> list[dict[str, object]]:
    done = consumer(environ, "inbox", "list", "-o", "json", *narrow)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def effects(environ: dict[str, str]) -> list[dict[str, object]]:
    file = Path(environ["SHOP_EFFECTS"])
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(environ: dict[str, str], count: int) -> list[dict[str, object]]:
    deadline = time.monotonic() + LIMIT
    while len(found := effects(environ)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def notification(number: int, text: str = "hello") -> dict[str, str]:
    return {"notification_id": f"n-{number}", "to": "a@b.c", "text": text}


def test_notifications_on_redis(environ, tmp_path):
    """Published before and while a worker runs, each twice: one effect a key; retried ones succeed; no key is left over."""
    assert consumer(environ, "migrate", "handlers.notify:app").returncode == 0
    publish(environ, tmp_path, "notifications.send", *(notification(number) for number in range(20)))
    worker = start(environ)
    try:
        publish(environ, tmp_path, "notifications.send", *(notification(number) for number in range(10, 30)))
        publish(
            environ,
            tmp_path,
            "receipts.send",
            *({"receipt_id": f"r-{n}", "payment_id": f"p-{n}", "fail_times": n} for n in range(4)),
        )
        wait_for(environ, 34)
    finally:
        assert stop(worker) == 0
    told = effects(environ)
    assert len(told) == len({one["key"] for one in told}) == 34
    assert {one["key"]: one["attempt"] for one in told if one["kind"] == "receipts.send"} == {
        f"r-{n}": n + 1 for n in range(4)
    }
    assert {one["state"] for one in entries(environ)} == {"done"}


def test_a_killed_worker_leaves_its_keys_in_doubt(environ, tmp_path):
    """Another worker adopts them and starts none of them again; somebody resolves them."""
    assert consumer(environ, "migrate", "handlers.notify:app").returncode == 0
    publish(environ, tmp_path, "notifications.send", notification(1, "unknown"), notification(2, "unknown"))
    worker = start(environ, "--worker-ttl", "2")
    wait_for(environ, 2)
    stop(worker, signal.SIGKILL)
    other = start(environ, "--worker-ttl", "2")
    try:
        deadline = time.monotonic() + LIMIT
        while {one["state"] for one in entries(environ)} != {"in_doubt"}:
            assert time.monotonic() < deadline, entries(environ)
            time.sleep(0.1)
        said = consumer(environ, "inbox", "resolve", "n-1", "--as", "done", "--reason", "arrived")
        assert said.returncode == 0, said.stderr
        assert [one["key"] for one in entries(environ, "--state", "done")] == ["n-1"]
        shown = consumer(environ, "inbox", "show", "n-2", "-o", "json")
        assert json.loads(shown.stdout)["state"] == "in_doubt"
    finally:
        assert stop(other) == 0
    assert len(effects(environ)) == 2


def test_transactional_handlers_are_refused(environ):
    assert consumer(environ, "migrate", "handlers.notify:app").returncode == 0
    done = consumer(environ, "run", "handlers.app:app")
    assert done.returncode == 78
    assert "is Transactional, redis://" in done.stderr
    assert "has no transactions; use postgresql:// or sqlite://, or AtMostOnce()" in done.stderr


def test_a_server_that_is_away_is_waited_for(environ, tmp_path):
    """At the start and later; nothing is lost or repeated."""
    with server() as redis:
        environ["CONSUMER_STORE"] = redis.url
        assert consumer(environ, "migrate", "handlers.notify:app").returncode == 0
        publish(environ, tmp_path, "notifications.send", *(notification(number) for number in range(5)))
        worker = start(environ)
        try:
            wait_for(environ, 5)
            redis.kill()
            assert worker.stderr is not None
            while "Redis" not in worker.stderr.readline():
                assert worker.poll() is None, "the worker ended when its store went away"
            redis.start()
            publish(environ, tmp_path, "notifications.send", *(notification(number) for number in range(10)))
            wait_for(environ, 10)
        finally:
            assert stop(worker) == 0
        told = effects(environ)
        assert len(told) == len({one["key"] for one in told}) == 10
