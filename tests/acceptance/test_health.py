"""Health of worker, relay and ingest, asked from outside: what each path says while something is wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import POSTGRES
from tests.acceptance.shop import ROOT, Shop
from tests.acceptance.worlds import World
from tests.services import Postgres
from tests.services.ports import free_port, pair

PATHS = ("/livez", "/readyz", "/startupz")

HOLDER = """
from __future__ import annotations
import os, time
from msgspec import Struct
from consumer import App, AtMostOnce, Key
app = App("holder")
class Hold(Struct):
    id: str
    until: str
@app.on("hold", key=Key.field("id"), mode=AtMostOnce())
async def hold(message: Hold) -> None:
    while not os.path.exists(message.until):
        time.sleep(0.05)
"""


def asked(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            status, kind, body = reply.status, reply.headers["content-type"], reply.read()
    except urllib.error.HTTPError as refusal:
        status, kind, body = refusal.code, refusal.headers["content-type"], refusal.read()
    return status, json.loads(body) if kind == "application/json" else body.decode()


def until_says(port: int, path: str, status: int, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while (answer := asked(port, path))[0] != status:
        assert time.monotonic() < deadline, f"{path} still says {answer}"
        time.sleep(0.05)
    return answer[1]


def statuses(port: int) -> list[int]:
    return [asked(port, path)[0] for path in PATHS]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Shop]:
    """An app whose handler holds the event loop until the file is there that its message names."""
    (tmp_path / "holding.py").write_text(HOLDER)
    shop = Shop(tmp_path, store="sqlite:///holder.db", app="holding:app")
    shop.environment |= {"CONSUMER_LOOP_LIMIT": "2", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    shop.migrate()
    try:
        yield shop
    finally:
        shop.close()


def test_a_held_event_loop_is_told_by_livez_and_its_holder_is_named(holder: Shop) -> None:
    port = free_port()
    worker = holder.start("--health-port", str(port))
    assert statuses(port) == [200, 200, 200]
    let_go = holder.folder / "let-go"
    holder.publish("hold", [{"id": "h-1", "until": str(let_go)}])
    body = until_says(port, "/livez", 503)
    assert body["status"] == "hangs"
    assert "event loop has been held" in body["reasons"][0]
    assert asked(port, "/readyz")[0] == 503
    holder.await_log("holding:hold (holding.py:10) holds the event loop", worker)
    let_go.touch()
    until_says(port, "/livez", 200)
    until_says(port, "/readyz", 200)
    _, metrics = asked(port, "/metrics")
    [lag] = [
        float(line.split()[1])
        for line in metrics.splitlines()
        if line.startswith("consumer_loop_lag_seconds ")
    ]
    assert lag > 2, "told for a while after it"
    assert holder.terminate(worker) == 0


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_a_store_that_is_away_turns_readyz_only(empty_world: World, postgres: Postgres) -> None:
    """Mutants: livez asks the store; readyz asks nobody."""
    shop, port = empty_world.shop, free_port()
    worker = shop.start("--health-port", str(port), "--worker-ttl", "3")
    assert statuses(port) == [200, 200, 200]
    await asyncio.to_thread(postgres.stop)
    body = await asyncio.to_thread(until_says, port, "/readyz", 503)
    assert body["status"] == "not ready"
    assert any(words in body["reasons"][0] for words in ("has not answered for", "sign of life"))
    assert statuses(port) == [200, 503, 200]
    _, metrics = asked(port, "/metrics")
    assert "\nconsumer_ready 0.0\n" in metrics, "a scrape is answered all the same"
    await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(until_says, port, "/readyz", 200)
    assert shop.terminate(worker) == 0


def test_a_worker_that_waits_for_its_store_lives_and_is_not_ready(tmp_path: Path) -> None:
    port, nobody = pair(1), free_port()
    shop = Shop(tmp_path, store=f"postgresql://u@127.0.0.1:{nobody}/db")
    worker = shop.begin("--health-port", str(port))
    try:
        shop.await_log("not ready", worker, seconds=30)
        assert statuses(port) == [200, 503, 200]
        assert shop.terminate(worker) == 0
    finally:
        shop.close()


def test_a_port_that_is_taken_ends_the_command(holder: Shop) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = holder.command("run", holder.app, "--health-port", str(port))
    assert done.returncode == 78, done.stderr
    assert f"health_port = {port}: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_process_of_one_command_answers_for_itself(holder: Shop) -> None:
    port = pair(1)
    worker = holder.start("--processes", "2", "--health-port", str(port))
    assert statuses(port) == statuses(port + 1) == [200, 200, 200]
    let_go = holder.folder / "let-go"
    holder.publish("hold", [{"id": "h-2", "until": str(let_go)}])
    held = None
    deadline = time.monotonic() + 30
    while held is None:
        assert time.monotonic() < deadline, holder.logs()
        held = next((each for each in (port, port + 1) if asked(each, "/livez")[0] == 503), None)
    assert asked(port + (held == port), "/livez")[0] == 200, "the other one is not held"
    let_go.touch()
    until_says(held, "/livez", 200)
    assert holder.terminate(worker) == 0


def test_ports_beyond_the_last_one_are_refused(holder: Shop) -> None:
    done = holder.command("run", holder.app, "--processes", "3", "--health-port", "65534")
    assert done.returncode == 78
    assert "3 processes need ports up to 65536" in done.stderr


@contextmanager
def serving(shop: Shop, port: int) -> Iterator[subprocess.Popen[str]]:
    """The ingest of a shop, ready."""
    with (shop.folder / "ingest.log").open("w") as log:
        ingest = subprocess.Popen(
            [sys.executable, "-m", "consumer", "ingest", shop.app, "--port", str(port)],
            env=shop.environment | {"STRIPE_WEBHOOK_SECRET": "whsec_x" * 4},
            cwd=shop.folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert ingest.stdout is not None
    try:
        assert ingest.stdout.readline().startswith("ready")
        yield ingest
    finally:
        ingest.kill()
        ingest.wait()
        ingest.stdout.close()


def forged(port: int) -> int:
    """Send a webhook whose signature is wrong; return the status."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/hooks/stripe", data=b"{}", method="POST")
    request.add_header("stripe-signature", f"t={int(time.time())},v1={'0' * 64}")
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_the_ingest_answers_on_its_own_port(empty_world: World, postgres: Postgres) -> None:
    port = free_port()
    with serving(empty_world.shop, port) as ingest:
        assert statuses(port) == [200, 200, 200]
        assert forged(port) == 401
        _, metrics = asked(port, "/metrics")
        assert 'consumer_ingest_results_total{provider="stripe",result="mismatch"} 1.0' in metrics
        assert 'consumer_ingest_results_total{provider="stripe",result="landed"} 0.0' in metrics
        await asyncio.to_thread(postgres.stop)
        body = await asyncio.to_thread(until_says, port, "/readyz", 503)
        assert "store does not answer" in body["reasons"][-1]
        assert statuses(port) == [200, 503, 200]
        await asyncio.to_thread(postgres.start)
        await asyncio.to_thread(until_says, port, "/readyz", 200)
        ingest.terminate()
        assert await asyncio.to_thread(ingest.wait, 30) == 0
