"""Thousands of raw requests against `consumer ingest`: never an error of ours, and never more memory for strangers' bytes."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest

from tests.acceptance.conftest import POSTGRES
from tests.acceptance.fuzz import corpus
from tests.acceptance.ingesting import Ingest, ask, pay
from tests.acceptance.worlds import World
from tests.http.raw import connected, replies
from tests.http.serverkit import HOST

pytestmark = pytest.mark.timeout(180)

SEED = int(os.environ.get("FUZZ_SEED", "5"))
REQUESTS = 5_000
AT_ONCE = 24
QUIET = 0.25
QUIET_AFTER = 0.03
"""Seconds without a byte after which a client goes away: it has not asked for an answer, or (after one) has no further one."""

MOST_MEMORY = 64 * 1024 * 1024
"""Bytes by which the process may have grown after all that."""


async def asked(port: int, data: bytes) -> bytes:
    """Send it and go away as soon as nothing comes any more."""
    answer = b""
    async with connected(HOST, port) as wire:
        wire.send(data)
        while True:
            try:
                chunk = await asyncio.wait_for(wire.reader.read(65_536), QUIET_AFTER if answer else QUIET)
            except (TimeoutError, ConnectionError):
                return answer
            if not chunk:
                return answer
            answer += chunk


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_a_corpus_of_raw_requests(empty_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    statuses: Counter[int] = Counter()
    bad: list[tuple[bytes, bytes]] = []
    with Ingest(empty_world.shop, "--port", "0").await_ready() as ingest:
        for number in range(50):
            assert (await pay(ingest.port, f"warm-{number}")).status == 201
        before = ingest.rss()
        requests = corpus(SEED, REQUESTS)

        async def client() -> None:
            for data in requests:
                answer = await asked(ingest.port, data)
                found = replies(answer)
                statuses.update(found)
                if any(status >= 500 for status in found):
                    bad.append((data, answer))

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        after = ingest.rss()
        with capsys.disabled():
            print(
                f"\nfuzz: seed {SEED}, {REQUESTS} requests, answers {dict(sorted(statuses.items()))},"
                f" RSS {before >> 20} -> {after >> 20} MiB"
            )
        assert not bad, "\n".join(f"{data[:1_500]!r}\n  -> {answer[:500]!r}" for data, answer in bad[:5])
        assert ingest.process.poll() is None, ingest.log
        assert "Traceback" not in ingest.log, ingest.log[-5_000:]
        assert after - before < MOST_MEMORY
        # The corpus reaches what it is meant to reach, or proves nothing.
        assert (
            min(statuses[201], statuses[400], statuses[401], statuses[404], statuses[405], statuses[431]) > 20
        )
        assert min(statuses[415], statuses[422]) > 10
        assert (await ask(ingest.port, "/readyz")).status == 200
        assert (await pay(ingest.port, "afterwards")).status == 201
        assert ingest.terminate() == 0, ingest.log
