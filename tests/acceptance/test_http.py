"""`consumer ingest` as a process: many at once, SIGKILL between commit and response, a store that goes away, SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import POSTGRES, SQLITE
from tests.acceptance.ingesting import Ingest
from tests.acceptance.shop import ROOT, until
from tests.acceptance.worlds import EmbeddedOnPostgres, World
from tests.http.shopkit import PAYMENT, code_of, replayed
from tests.http.signing import as_bytes, requested, standard
from tests.proxy import Proxy

pytestmark = pytest.mark.timeout(120)

EVERYWHERE = pytest.mark.parametrize("empty_world", [SQLITE, POSTGRES], indirect=True)
AT_ONCE = 64


@contextmanager
def ingesting(world: World) -> Iterator[Ingest]:
    with Ingest(world.shop, "--port", "0", "--worker-ttl", "3") as ingest:
        yield ingest.await_ready()


def client_of(ingest: Ingest) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{ingest.port}",
        timeout=60,
        limits=httpx.Limits(max_connections=AT_ONCE),
    )


async def pay(client: httpx.AsyncClient, key: str, **other: object) -> httpx.Response:
    return await client.post("/payments", json=PAYMENT | other, headers={"Idempotency-Key": key})


async def pay_until_told(client: httpx.AsyncClient, key: str) -> httpx.Response:
    """Come again as one is told to; no client of ours gives up."""
    while True:
        reply = await pay(client, key)
        if reply.status_code == 201:
            return reply
        assert reply.status_code in {409, 503}, reply.text
        await asyncio.sleep(float(reply.headers["retry-after"]))


@pytest.fixture
async def gated(postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[World, Proxy]]:
    """The application on Postgres, which it reaches through a gate."""
    gate = Proxy(postgres_url)
    await gate.open()
    world = EmbeddedOnPostgres(tmp_path, postgres_url)
    world.shop.migrate()
    world.shop.environment["CONSUMER_STORE"] = gate.url
    yield world, gate
    world.shop.close()
    await gate.shut()


async def ledger(world: World) -> int:
    [(count,)] = await world.query("select count(*) from ledger")
    return int(count)


@EVERYWHERE
async def test_sixty_four_at_once_are_one_execution_and_the_same_bytes(empty_world: World) -> None:
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            for key in ("p-1", "p-2", "p-3"):
                replies = await asyncio.gather(*(pay(client, key) for _ in range(AT_ONCE)))
                told = [reply for reply in replies if reply.status_code < 300]
                assert len({reply.content for reply in told}) == 1
                assert sum(not replayed(reply) for reply in told) == 1
                rest = [reply for reply in replies if reply.status_code >= 300]
                assert {(reply.status_code, code_of(reply)) for reply in rest} <= {(409, "in-progress")}
                again = await pay(client, key)
                assert (again.status_code, again.content, replayed(again)) == (201, told[0].content, True)
        assert await ledger(empty_world) == 3
        [(landed,)] = await empty_world.query(
            "select count(*) from consumer_inbox where handler = 'payments.settled'"
        )
        assert landed == 3
        assert ingest.terminate() == 0, ingest.log


@EVERYWHERE
async def test_of_two_payloads_at_once_one_wins_and_the_other_is_a_mismatch(empty_world: World) -> None:
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            replies = await asyncio.gather(*(pay(client, "p-1", amount=1 + i % 2) for i in range(AT_ONCE)))
            amounts = {reply.json()["amount"] for reply in replies if reply.status_code == 201}
            assert len(amounts) == 1
            others = [reply for i, reply in enumerate(replies) if {1 + i % 2} != amounts]
            # 409 while the winner runs: nobody sees yet what it was asked for.
            assert {reply.status_code for reply in others} <= {409, 422}
            [won] = amounts
            assert (await pay(client, "p-1", amount=3 - won)).status_code == 422
        assert await ledger(empty_world) == 1


@EVERYWHERE
async def test_killed_between_commit_and_response_the_retry_replays(
    empty_world: World, tmp_path: Path
) -> None:
    shop, switch = empty_world.shop, tmp_path / "die"
    shop.app = "tests.acceptance.apps.mortal:app"
    shop.environment |= {"SHOP_DIE": str(switch), "PYTHONPATH": str(ROOT)}
    with ingesting(empty_world) as ingest:
        switch.touch()
        async with client_of(ingest) as client:
            with pytest.raises(httpx.TransportError):
                await pay(client, "p-1")
        assert await asyncio.to_thread(ingest.process.wait, 20) == -signal.SIGKILL
        assert await ledger(empty_world) == 1
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            reply = await pay(client, "p-1")
            assert (reply.status_code, replayed(reply)) == (201, True)
            assert reply.json() == {"payment_id": "p-1", "status": "settled", **PAYMENT}
            switch.touch()
            body = as_bytes(requested("p-2"))
            with pytest.raises(httpx.TransportError):
                await client.post("/hooks/standard", content=body, headers=standard(body))
        assert await asyncio.to_thread(ingest.process.wait, 20) == -signal.SIGKILL
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            assert (
                await client.post("/hooks/standard", content=body, headers=standard(body))
            ).status_code == 200
            assert (await pay(client, "p-2")).status_code == 201
    assert await ledger(empty_world) == 2


@EVERYWHERE
async def test_killed_under_load_every_payment_is_taken_once(empty_world: World) -> None:
    keys = [f"p-{number}" for number in range(120)]
    told: dict[str, bytes] = {}
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:

            async def first(key: str) -> None:
                try:
                    reply = await pay(client, key)
                except httpx.TransportError:
                    return
                if reply.status_code == 201:
                    told[key] = reply.content
                if len(told) == 40:
                    ingest.process.send_signal(signal.SIGKILL)

            await asyncio.gather(*map(first, keys))
        assert await asyncio.to_thread(ingest.process.wait, 20) == -signal.SIGKILL
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            replies = await asyncio.gather(*(pay_until_told(client, key) for key in keys))
    for key, reply in zip(keys, replies, strict=True):
        assert reply.json()["payment_id"] == key
        if key in told:
            assert (reply.content, replayed(reply)) == (told[key], True)
    rows = await empty_world.query("select payment_id from ledger")
    assert sorted(key for (key,) in rows) == sorted(keys)


@EVERYWHERE
async def test_sigterm_under_load_answers_what_has_started(empty_world: World) -> None:
    with ingesting(empty_world) as ingest:
        async with client_of(ingest) as client:
            asked = [asyncio.create_task(pay(client, f"p-{number}")) for number in range(200)]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log
            replies = await asyncio.gather(*asked, return_exceptions=True)
        taken = [
            r.json()["payment_id"] for r in replies if isinstance(r, httpx.Response) and r.status_code == 201
        ]
        rest = [r for r in replies if isinstance(r, httpx.Response) and r.status_code != 201]
        assert {r.status_code for r in rest} <= {503}
        assert all(isinstance(r, httpx.Response | httpx.TransportError) for r in replies)
    rows = sorted(key for (key,) in await empty_world.query("select payment_id from ledger"))
    assert rows == sorted(taken), "who was told has a row, and who has a row was told"


async def test_a_store_that_goes_away_is_503_and_comes_back(gated: tuple[World, Proxy]) -> None:
    world, gate = gated
    body = as_bytes(requested("p-9"))
    with Ingest(world.shop, "--port", "0", "--worker-ttl", "3") as ingest:
        await asyncio.to_thread(ingest.await_ready)  # the gate is on this loop
        async with client_of(ingest) as client:
            first = await pay(client, "p-1")
            assert first.status_code == 201
            await gate.shut()
            for _ in range(3):
                for reply in (
                    await pay(client, "p-1"),
                    await pay(client, "p-2"),
                    await client.post("/hooks/standard", content=body, headers=standard(body)),
                ):
                    assert (reply.status_code, reply.json()["code"]) == (503, "store-unavailable")
                    assert 1 <= int(reply.headers["retry-after"]) <= 60

            async def unready() -> bool:
                return (await client.get("/readyz")).status_code == 503

            await until(unready, 20, "readyz is 503")
            assert (await client.get("/livez")).status_code == 200
            await gate.open()

            async def ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await until(ready, 30, lambda: f"ready again\n{ingest.log}")
            again = await pay(client, "p-1")
            assert (again.content, replayed(again)) == (first.content, True)
            assert (await pay_until_told(client, "p-2")).status_code == 201
            hooked = await client.post("/hooks/standard", content=body, headers=standard(body))
            assert hooked.status_code == 200
    assert await ledger(world) == 2
