"""`consumer ingest` and `run --ingest` as processes: from the line that says ready to the exit code."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.http.guard import MOST_CONNECTIONS
from tests.acceptance.conftest import POSTGRES, SQLITE
from tests.acceptance.ingesting import STANDARD, STRIPE, Ingest, ask, pay, payment
from tests.acceptance.looks import ledger
from tests.acceptance.shop import Shop, until
from tests.acceptance.worlds import World
from tests.http.raw import Wire, connected
from tests.http.serverkit import HOST, post
from tests.services import Postgres
from tests.services.ports import free_port

pytestmark = pytest.mark.timeout(120)

CLIENTS = 12

both = pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES], indirect=True)
on_sqlite = pytest.mark.parametrize("empty_world", [SQLITE], indirect=True)
on_postgres = pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)


async def exited(ingest: Ingest, seconds: float) -> int:
    return await asyncio.to_thread(ingest.process.wait, seconds)


@both
async def test_from_ready_to_the_end(empty_world: World) -> None:
    with Ingest(empty_world.shop, "--port", "0").await_ready() as ingest:
        assert ingest.ready.startswith("ready shop: http://127.0.0.1:")
        for path in ("/readyz", "/livez"):
            assert (await ask(ingest.port, path)).status == 200
        first, again = await pay(ingest.port, "p-1"), await pay(ingest.port, "p-1")
        assert (first.status, again.status, first.body) == (201, 201, again.body)
        assert again.headers[b"idempotent-replayed"] == b"true"
        async with connected(HOST, ingest.port) as idle:
            idle.send(payment("p-2"))
            assert (await idle.reply()).status == 201
            began = time.monotonic()
            assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log
            assert time.monotonic() - began < 20, "an idle connection does not hold it"
            assert await idle.closed() == b""
        assert "Traceback" not in ingest.log
    assert len(await ledger(empty_world, "p-1")) == 1


@on_sqlite
def test_a_port_that_is_taken_and_a_host_that_is_none(empty_world: World) -> None:
    """One line each, whatever has been opened before the address was tried."""
    empty_world.shop.environment |= {"STRIPE_WEBHOOK_SECRET": STRIPE, "STANDARD_WEBHOOK_SECRET": STANDARD}
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments in (
            ["ingest", empty_world.shop.app, "--port", str(port)],
            ["run", empty_world.shop.app, "--ingest", f"{HOST}:{port}"],
        ):
            done = empty_world.shop.command(*arguments)
            assert done.returncode == 78, done
            assert done.stderr.startswith(
                f"error: cannot listen on {HOST}:{port}: Address already in use; choose "
            )
            assert done.stderr.count("\n") == 1
    done = empty_world.shop.command("ingest", empty_world.shop.app, "--host", "nowhere.invalid")
    assert done.returncode == 78
    assert done.stderr.startswith("error: cannot listen on nowhere.invalid:8080: ")
    assert done.stderr.count("\n") == 1
    done = empty_world.shop.command("run", empty_world.shop.app, "--ingest", "8080")
    assert (done.returncode, done.stderr) == (78, "error: '8080': write HOST:PORT, as in 127.0.0.1:8080\n")


@on_sqlite
async def test_sockets_that_somebody_leaves_open_neither_end_the_process_nor_keep_payments_out(
    empty_world: World,
) -> None:
    """The health port answers whatever clients hold open, and an idle socket gives its place to who asks something."""
    health = free_port()
    with Ingest(empty_world.shop, "--port", "0", "--health-port", str(health)).await_ready() as ingest:
        idle = [socket.create_connection((HOST, ingest.port)) for _ in range(MOST_CONNECTIONS)]
        try:
            for path in ("/livez", "/readyz", "/startupz", "/metrics"):
                assert (await ask(health, path)).status == 200, path

            async def paid() -> bool:
                try:
                    return (await pay(ingest.port, "p-1")).status == 201
                except ConnectionError:  # refused, and closed before it was sent
                    return False

            await until(paid, 30, lambda: ingest.log)
            assert (await ask(ingest.port, "/livez")).status == 200
        finally:
            for each in idle:
                each.close()
        assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log


@on_sqlite
async def test_ipv6(empty_world: World) -> None:
    with Ingest(empty_world.shop, "--host", "::1", "--port", "0").await_ready() as ingest:
        assert "http://[::1]:" in ingest.ready
        assert (await pay(ingest.port, "p-1", "::1")).status == 201


@on_postgres
async def test_a_worker_that_serves_http_too(empty_world: World) -> None:
    """`run --ingest`: the address in the ready line, the endpoint's row, and its outgoing message handled by the same process."""
    with Ingest(empty_world.shop, "--ingest", f"{HOST}:0", verb="run").await_ready() as worker:
        port = worker.port
        assert worker.ready.startswith(f"ready shop: http://{HOST}:{port}, "), worker.ready
        assert (await ask(port, "/readyz")).status == 200
        assert (await pay(port, "p-1")).status == 201

        async def told() -> bool:
            return [line["key"] for line in empty_world.shop.lines()] == ["p-1"]

        await until(told, 20, lambda: worker.log)
        assert await asyncio.to_thread(worker.terminate) == 0, worker.log
        assert "Traceback" not in worker.log


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, store="sqlite:///slow.db", app="tests.acceptance.apps.slowpay:app")
    shop.migrate()
    yield shop
    shop.close()


def asks(key: str, seconds: float) -> bytes:
    body = json.dumps({"id": key, "seconds": seconds}).encode()
    return post(body, b"Idempotency-Key: " + key.encode(), path=b"/asks")


async def begun(ingest: Ingest, key: str) -> None:
    """Wait until the handler of a key has said that it runs."""
    assert ingest.process.stdout is not None
    assert await asyncio.to_thread(ingest.process.stdout.readline) == f"began {key}\n", ingest.log


async def answered(wire: Wire) -> int:
    return (await wire.reply()).status


async def test_a_request_under_way_is_finished(slow: Shop) -> None:
    with Ingest(slow, "--port", "0").await_ready() as ingest:
        async with connected(HOST, ingest.port) as wire:
            wire.send(asks("a", 2))
            await begun(ingest, "a")
            ended = asyncio.create_task(asyncio.to_thread(ingest.terminate))
            assert await answered(wire) == 200
            assert await ended == 0, ingest.log
    assert slow.shown("a")["state"] == "done"


async def test_a_request_that_outlasts_the_grace(slow: Shop) -> None:
    """Exit 1, its key visibly in doubt (once its worker has lapsed), and a body that never ends holds nothing."""
    with Ingest(slow, "--port", "0", "--grace", "1").await_ready() as ingest:
        async with connected(HOST, ingest.port) as hanging, connected(HOST, ingest.port) as dripping:
            dripping.send(post(b"a", b"Idempotency-Key: d", path=b"/asks", length=10))
            hanging.send(asks("a", 500))
            await begun(ingest, "a")
            began = time.monotonic()
            assert await asyncio.to_thread(ingest.terminate) == 1, ingest.log
            assert time.monotonic() - began < 20
            assert await answered(dripping) == 503
        assert "running task(s)" not in ingest.log, "an end as it may be is no error"
        assert "Traceback" not in ingest.log, ingest.log
    assert slow.shown("a")["state"] in {"running", "in_doubt"}


@both
async def test_kill_in_flight_and_start_again(empty_world: World) -> None:
    """Some are answered, some are not; asked again, each is one row, and what was answered is told again, byte for byte."""
    keys = [f"p-{number}" for number in range(60)]
    told: dict[str, bytes] = {}
    with Ingest(empty_world.shop, "--port", "0").await_ready() as ingest:

        async def client(mine: list[str]) -> None:
            """One payment after the other: what shares a commit is answered at once, so not all may be under way."""
            for key in mine:
                try:
                    reply = await pay(ingest.port, key)
                except (ConnectionError, AssertionError):  # it was killed before it had answered
                    return
                assert reply.status == 201
                told[key] = reply.body
                if len(told) == 10:
                    ingest.process.kill()

        await asyncio.gather(*(client(keys[first::CLIENTS]) for first in range(CLIENTS)))
        ingest.process.wait()
    assert 10 <= len(told) < len(keys), "it was killed in the middle"
    with Ingest(empty_world.shop, "--port", "0", "--worker-ttl", "2").await_ready() as ingest:
        for key in keys:
            reply = await pay(ingest.port, key)
            while reply.status in {409, 503}:
                await asyncio.sleep(0.1)  # as it was told: the dead process' transaction may still be there
                reply = await pay(ingest.port, key)
            assert reply.status == 201
            assert reply.body == told.get(key, reply.body)
            assert len(await ledger(empty_world, key)) == 1
        assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log


@on_postgres
async def test_the_store_goes_away_and_comes_back(empty_world: World, postgres: Postgres) -> None:
    with Ingest(empty_world.shop, "--port", "0").await_ready() as ingest:
        assert (await pay(ingest.port, "p-1")).status == 201
        await asyncio.to_thread(postgres.stop)
        await away(ingest.port)
        await asyncio.to_thread(postgres.start)
        await back(ingest)
        assert len(await ledger(empty_world, "p-2")) == 1
        assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log


@on_postgres
async def test_the_store_is_away_at_the_start(empty_world: World, postgres: Postgres) -> None:
    port = free_port()
    await asyncio.to_thread(postgres.stop)
    with Ingest(empty_world.shop, "--port", str(port)) as ingest:

        async def listens() -> bool:
            try:
                return (await ask(port, "/livez")).status == 200
            except ConnectionError:
                return False

        await until(listens, 30, lambda: ingest.log)
        ingest.port = port
        await away(port)
        await asyncio.to_thread(postgres.start)
        ingest.await_ready()
        await back(ingest)
        assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log


async def away(port: int) -> None:
    """Nothing is taken, and clients are told to come back; the process lives."""

    async def unready() -> bool:
        return (await ask(port, "/readyz")).status == 503

    await until(unready, 20, "/readyz says so")
    assert (await ask(port, "/livez")).status == 200
    reply = await pay(port, "p-2")
    assert (reply.status, json.loads(reply.body)["code"]) == (503, "store-unavailable")
    assert 1 <= int(reply.headers[b"retry-after"]) <= 60


async def back(ingest: Ingest) -> None:
    """It takes payments again, by itself."""

    async def ready() -> bool:
        return (await ask(ingest.port, "/readyz")).status == 200

    await until(ready, 30, lambda: ingest.log)
    assert (await pay(ingest.port, "p-2")).status == 201
    assert "Traceback" not in ingest.log, ingest.log
