"""Thousands of raw requests against `consumer ingest`: never an error of ours, and never more memory for strangers' bytes."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter

import pytest

from tests.acceptance.conftest import POSTGRES
from tests.acceptance.fuzz import corpus
from tests.acceptance.ingesting import Ingest, ask, pay
from tests.acceptance.worlds import World
from tests.http.raw import connected, replies
from tests.http.serverkit import HOST

pytestmark = pytest.mark.timeout(300)

SEED = int(os.environ.get("FUZZ_SEED", "5"))
REQUESTS = 5_000
AT_ONCE = 24
QUIET = 0.25
QUIET_AFTER = 0.03
"""Seconds without a byte after which a client goes away: it has not asked for an answer, or (after one) has no further one."""

MOST_MEMORY = 64 * 1024 * 1024
"""Bytes by which the process may have grown after all that."""


class Pace:
    """How fast the server is now: one payment after the other, beside the corpus.

    Attributes:
        answered: when the payment was begun that was answered last; seconds of the loop's clock.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self.answered = 0.0

    async def keep(self) -> None:
        """Pay until cancelled."""
        for number in itertools.count():
            began = self._loop.time()
            assert (await pay(self._port, f"pace-{number}")).status == 201
            self.answered = began


async def asked(port: int, data: bytes, pace: Pace) -> bytes:
    """Send it and go away as soon as nothing comes any more.

    Not by the clock alone, which says nothing of a server on a busy machine: a payment that was begun later has its answer.
    """
    answer = b""
    async with connected(HOST, port) as wire:
        wire.send(data)
        sent = asyncio.get_running_loop().time()
        while True:
            try:
                chunk = await asyncio.wait_for(wire.reader.read(65_536), QUIET_AFTER if answer else QUIET)
            except TimeoutError:
                if answer or pace.answered > sent:
                    return answer
                continue
            except ConnectionError:
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
                answer = await asked(ingest.port, data, pace)
                found = replies(answer)
                statuses.update(found)
                if any(status >= 500 for status in found):
                    bad.append((data, answer))

        pace = Pace(ingest.port)
        async with asyncio.TaskGroup() as together:
            keeping = together.create_task(pace.keep())
            await asyncio.gather(*(client() for _ in range(AT_ONCE)))
            keeping.cancel()
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
