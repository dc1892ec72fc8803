"""`kill -9` of a server whose application is guarded: uvicorn, Starlette, SQLite and Postgres, as a user has them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.http.guardkit import prepared

API = '''
import asyncio, os, signal
from pathlib import Path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from consumer import App
from consumer.http import Idempotency, single_tenant


class Dies:
    """Outside of Idempotency: kills the process when a response is about to leave."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def last(message):
            if message["type"] == "http.response.start" and (b"x-die", b"before-response") in scope["headers"]:
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        await self.app(scope, receive, last if scope["type"] == "http" else send)


async def slow(request):
    with Path("effects").open("a") as effects:
        effects.write("begun\\n")
    while not Path("leave").exists():
        await asyncio.sleep(0.01)
    with Path("effects").open("a") as effects:
        effects.write("ended\\n")
    return JSONResponse({"paid": "slowly"}, 201)


async def pay(request):
    with Path("effects").open("a") as effects:
        effects.write(request.headers["idempotency-key"] + "\\n")
    if request.headers.get("x-die") == "in-the-middle":
        os.kill(os.getpid(), signal.SIGKILL)
    return JSONResponse({"paid": len(Path("effects").read_text().split())}, 201)


api = Starlette(
    routes=[Route("/payments", pay, methods=["POST"]), Route("/slow", slow, methods=["POST"])],
    middleware=[
        Middleware(Dies),
        Middleware(
            Idempotency, app=App("shop"), tenant=single_tenant, routes={"POST /payments": "required"}, wait=30
        ),
    ],
)
'''
PATIENCE = 40.0


class Server:
    """uvicorn as a process of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "api.py").write_text(API)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CONSUMER_")}
        self._environment = environment | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "CONSUMER_STORE": url,
            "CONSUMER_WORKER_TTL": "3",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "api:api", "--port", "0", "--lifespan", "on"]
        log = self.folder / "log"
        with log.open("w") as out:
            self._process = subprocess.Popen(command, cwd=self.folder, env=self._environment, stderr=out)
        until = time.monotonic() + PATIENCE
        while (found := re.search(r"running on (http://[0-9.:]+)", log.read_text())) is None:
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        self.url = found[1]

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
            self._process.wait(PATIENCE)

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def post(self, key: str, *, path: str = "/payments", **headers: str) -> httpx.Response:
        with httpx.Client(timeout=PATIENCE) as client:
            return client.post(self.url + path, content=b"{}", headers={"Idempotency-Key": key} | headers)

    def post_until_settled(self, key: str) -> httpx.Response:
        """Ask again as a client is told to: while the dead process has not lapsed, the key is in progress."""
        until = time.monotonic() + PATIENCE
        while True:
            reply = self.post(key)
            if reply.status_code != 409 or reply.json()["code"] != "in-progress":
                return reply
            assert time.monotonic() < until, "does not lapse"
            time.sleep(float(reply.headers["retry-after"]))

    def effects(self) -> list[str]:
        file = self.folder / "effects"
        return file.read_text().split() if file.exists() else []


@pytest.fixture(params=["sqlite", "postgres"])
async def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return await prepared(f"sqlite:///{tmp_path}/shop.db")
    return await prepared(await request.getfixturevalue("postgres_service").fresh_database())


@pytest.fixture
def server(tmp_path, url) -> Iterator[Server]:
    made = Server(tmp_path, url)
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(120)
def test_killed_in_the_middle_the_outcome_is_unknown_and_nothing_is_repeated(server):
    with pytest.raises(httpx.TransportError):
        server.post("k1", **{"X-Die": "in-the-middle"})
    assert server.wait() == -signal.SIGKILL
    server.start()
    for _ in range(2):
        reply = server.post_until_settled("k1")
        assert (reply.status_code, reply.json()["code"]) == (409, "outcome-unknown")
        assert "retry-after" not in reply.headers
    assert server.effects() == ["k1"]
    assert server.post("k2").status_code == 201


@pytest.mark.timeout(120)
def test_killed_between_the_commit_and_the_response_the_retry_replays(server):
    with pytest.raises(httpx.TransportError):
        server.post("k1", **{"X-Die": "before-response"})
    assert server.wait() == -signal.SIGKILL
    server.start()
    reply = server.post("k1")
    assert (reply.status_code, reply.json()) == (201, {"paid": 1})
    assert reply.headers["idempotent-replayed"] == "true"
    assert server.effects() == ["k1"]


@pytest.mark.timeout(120)
def test_sixty_four_clients_with_one_key_at_once(server):
    gate = threading.Barrier(64)

    def ask(_: int) -> httpx.Response:
        gate.wait(PATIENCE)
        return server.post("k1")

    with ThreadPoolExecutor(64) as clients:
        replies = list(clients.map(ask, range(64)))
    assert server.effects() == ["k1"]
    assert {(reply.status_code, reply.content) for reply in replies} == {(201, b'{"paid":1}')}
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_client_that_hangs_up_and_a_sigterm_stop_nothing_that_has_started(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as client:
        client.sendall(
            b"POST /slow HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k1\r\nContent-Length: 2\r\n\r\n{}"
        )
        until = time.monotonic() + PATIENCE
        while server.effects() != ["begun"]:
            assert time.monotonic() < until
            time.sleep(0.02)
    server.terminate()
    (server.folder / "leave").touch()
    assert server.wait() == -signal.SIGTERM  # uvicorn ends by it when all is done
    assert server.effects() == ["begun", "ended"]
    server.start()
    reply = server.post("k1", path="/slow")
    assert (reply.status_code, reply.json()) == (201, {"paid": "slowly"})
    assert reply.headers["idempotent-replayed"] == "true"
    assert server.effects() == ["begun", "ended"]
