"""Two processes on one store, one of them believed to be dead: who owns the key, and what the believed dead may still say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key
from consumer.entry import State
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource

TTL = 5
"""Seconds: long enough for a process that a busy machine keeps waiting, so that only whom a test lets lapse does."""


async def lapse(process: Shop) -> None:
    """Let the sign of life of a process be over, as a long pause of its machine does."""
    runtime = process.running.runtime
    if process.url.startswith("sqlite"):
        workers: Any = runtime.store.workers
        workers.drop(runtime.parts.worker)
        return
    database = await asyncpg.connect(process.url)
    await database.execute(
        "update consumer_workers set ttl = 0, beat_at = beat_at - interval '1 hour' where id = $1",
        runtime.parts.worker,
    )
    await database.close()


class Patient:
    """A handler that each process starts with a string of its own to end it."""

    def __init__(self, mode: Any, *, stubborn: bool) -> None:
        self.app = App("shop")
        self.tokens: list[int] = []
        self.end = asyncio.Event()

        @self.app.on("orders", key=Key.field("id"), mode=mode)
        async def take(order: Order, ctx: Context) -> str:
            if order.id != "slow":
                return order.id
            self.tokens.append(ctx.fencing_token)
            number = len(self.tokens)
            while number == 1 and not self.end.is_set():
                try:
                    await self.end.wait()
                except asyncio.CancelledError:
                    if not stubborn:
                        raise
            return f"attempt {number}"

    @asynccontextmanager
    async def at_work(self, url: str, a: ListSource, b: ListSource) -> AsyncIterator[tuple[Shop, Shop]]:
        """Open two processes; a test that fails lets the handler go, so that they can end."""
        async with (
            opened(self.app, url, source=a, worker_ttl=TTL) as one,
            opened(self.app, url, source=b, migrate=False, worker_ttl=TTL) as two,
        ):
            try:
                yield one, two
            finally:
                self.end.set()


async def a_new_worker(process: Shop, old: int) -> None:
    await process.until(lambda: process.running.runtime.parts.worker != old)


async def test_at_most_once_in_doubt_and_the_late_completion_counts(url: str) -> None:
    """Mutants: late completion discarded (a store that settles only what is running); beat revives a closed worker."""
    patient = Patient(AtMostOnce(), stubborn=True)
    source = ListSource()
    async with patient.at_work(url, source, ListSource()) as (a, b):
        source.add("orders", Order("slow"))
        await a.until(lambda: patient.tokens)
        old = a.running.runtime.parts.worker
        await lapse(a)
        await b.until(lambda: _is(b, State.IN_DOUBT))
        await a_new_worker(a, old)
        assert source.acks == [], "nothing holds its bytes yet"
        patient.end.set()
        await a.rest()
        entry = await a.entry("slow")
        assert (entry.state, entry.result, entry.token) == (State.DONE, b'"attempt 1"', patient.tokens[0])
        assert [line.event for line in entry.story] == ["lapse", "late"]
        source.add("orders", Order("next"))  # it goes on, as another worker
        await a.rest()
        assert (await a.entry("next")).state is State.DONE
    assert len(patient.tokens) == 1


async def test_at_most_once_cancelled_is_in_doubt_with_its_bytes(url: str) -> None:
    """What runs under a worker that was closed is asked to stop; the key is in doubt and keeps its message."""
    patient = Patient(AtMostOnce(), stubborn=False)
    source = ListSource()
    async with patient.at_work(url, source, ListSource()) as (a, _):
        source.add("orders", Order("slow"))
        await a.until(lambda: patient.tokens)
        await lapse(a)
        await a.rest()
        entry = await a.entry("slow")
        assert (entry.state, entry.message is not None) == (State.IN_DOUBT, True)
    assert len(patient.tokens) == 1


async def test_at_least_once_another_worker_takes_over(url: str) -> None:
    """The higher token wins; the completion of the lower one is refused, its delivery asked about and acknowledged.

    Mutant: fenced delivery forgotten (`InHand.ended`: without the push to `_again`); per-entry token (a store that
    counts tokens anew).
    """
    patient = Patient(AtLeastOnce(retry=Backoff(5, first=0)), stubborn=True)
    one, two = ListSource(), ListSource()
    async with patient.at_work(url, one, two) as (a, b):
        one.add("orders", Order("slow"))
        await a.until(lambda: patient.tokens)
        old = a.running.runtime.parts.worker
        two.add("orders", Order("slow"))  # the partition is B's now
        await b.until(lambda: len(b.running.runtime.slots._in_hand._again) == 1)
        await lapse(a)
        await b.rest()
        first, second = patient.tokens
        assert second > first
        entry = await b.entry("slow")
        assert (entry.state, entry.result, entry.token, entry.attempts) == (
            State.DONE,
            b'"attempt 2"',
            second,
            2,
        )
        await a_new_worker(a, old)
        patient.end.set()
        await a.until(lambda: any("lost" in (ending.reason or "") for ending in a.watch.of("slow")))
        await a.rest()
        assert one.acks == [("orders", 0, 0)]
        assert await a.entry("slow") == entry
        one.add("orders", Order("next"))
        await a.rest()
        assert (await a.entry("next")).state is State.DONE


async def _is(process: Shop, state: State) -> bool:
    return (await process.entry("slow")).state is state
