"""One rollout: send at a steady rate, grow, replace every worker, shrink, wait until all has ended, close the books."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.acceptance.shop import committed, fresh_shop_topics
from tests.services import Kafka
from tests.storm.books import Books, at_rest, books
from tests.storm.places import Place

__all__ = ["Flow", "Rollout", "Sample", "rollout"]

GROUP = "storm"  # the consumer group of which the books ask
PARTITIONS = 6
TTL = "10"
REPEATED = 10
"""One record in so many is another's repetition."""

EVERY = 0.5
"""Seconds between looks."""

ALARM = "without saying goodbye"
"""What a worker writes to its log when it takes another one for dead, and is careful for a while."""

PATIENCE = 180.0
"""Seconds that one worker has, when all is sent, to end what is left; and as long again as the sending took."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The size of a rollout.

    Attributes:
        messages: records sent, repetitions included.
        rate: how many a second.
        most: workers at the height.
        seed: of the order.
    """

    messages: int = 100_000
    rate: float = 500.0
    most: int = 4
    seed: int = 1

    @property
    def seconds(self) -> float:
        """How long is sent."""
        return self.messages / self.rate


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the beginning, records sent, records not acknowledged, workers alive."""

    at: float
    sent: int
    lag: int
    workers: int


@dataclass(slots=True)
class Rollout:
    """What was seen."""

    flow: Flow
    samples: list[Sample] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    alarms: int = 0
    books: Books = field(default_factory=Books)

    @property
    def recovered(self) -> float:
        """Seconds from the last thing that happened until nothing was unacknowledged."""
        last = self.events[-1][0]
        return next(s.at for s in reversed(self.samples) if s.lag == 0) - last

    def __str__(self) -> str:
        worst = max(self.samples, key=lambda sample: sample.lag)
        return (
            f"{self.books}\n"
            f"most lag     {worst.lag:>9,} at {worst.at:.0f} s; none left {self.recovered:.1f} s after the last step\n"
            f"stops        {len(self.stops):>9,} clean ones, the longest {max(self.stops):.1f} s\n"
            f"alarms       {self.alarms:>9,} of workers that took another one for dead"
        )


class _Crew:
    """The workers, and what happens to them."""

    def __init__(self, place: Place, seen: Rollout, began: float, say: Callable[[str], None]) -> None:
        self._place = place
        self._seen = seen
        self.began = began
        self._say = say
        self.alive: list[subprocess.Popen[str]] = []

    async def grow(self) -> None:
        """Start one, and wait until it is ready."""
        worker = await asyncio.to_thread(
            self._place.shop.start, "--group", GROUP, "--worker-ttl", TTL, "--grace", "25"
        )
        self.alive.append(worker)

    async def shrink(self, worker: subprocess.Popen[str]) -> None:
        """Ask one to end, as an orchestrator does, and hold it to its grace."""
        self.alive.remove(worker)
        before = time.monotonic()
        code = await asyncio.to_thread(self._place.shop.terminate, worker, 60)
        self._seen.stops.append(time.monotonic() - before)
        if code != 0:
            self._seen.books.faults.append(f"a worker ended with exit code {code}")

    def note(self, what: str) -> None:
        """Something has happened."""
        at = time.monotonic() - self.began
        self._seen.events.append((at, what))
        self._say(f"{at:7.1f} s  {what}")

    async def steps(self) -> None:
        """1 -> most -> each replaced by a new one -> 1, spread over the time in which messages are sent."""
        flow = self._seen.flow
        await self._until(0.15)
        for _ in range(flow.most - 1):
            await self.grow()
        self.note(f"{flow.most} workers")
        await self._until(0.35)
        for old in list(self.alive):
            await self.grow()  # the new one first: a Deployment's maxSurge 1, maxUnavailable 0
            await self.shrink(old)
        self.note("each replaced")
        await self._until(0.75)
        for old in self.alive[1:]:
            await self.shrink(old)
        self.note("1 worker")

    async def _until(self, part: float) -> None:
        await asyncio.sleep(max(0.0, self.began + part * self._seen.flow.seconds - time.monotonic()))


async def rollout(flow: Flow, place: Place, kafka: Kafka, say: Callable[[str], None]) -> Rollout:
    """Run it; return what was seen, with its books.

    Raises:
        AssertionError: it does not come to rest.
    """
    await fresh_shop_topics(kafka, PARTITIONS)
    await asyncio.to_thread(place.shop.migrate)
    chance = random.Random(flow.seed)
    unique = flow.messages - flow.messages // REPEATED
    numbers = [*range(unique), *(chance.randrange(unique) for _ in range(flow.messages - unique))]
    chance.shuffle(numbers)
    seen, began = Rollout(flow), time.monotonic()
    crew = _Crew(place, seen, began, say)
    try:
        await crew.grow()
        began = crew.began = time.monotonic()  # the clock runs from the first message on
        looking = asyncio.create_task(_look(seen, crew, place, kafka.bootstrap, began))
        try:
            await asyncio.gather(_send(flow, place, kafka.bootstrap, numbers), crew.steps())
            say(f"{time.monotonic() - began:7.1f} s  all is sent")
            await _rest(place, kafka.bootstrap, len(set(numbers)), flow.seconds + PATIENCE)
            await _seen(seen, looking)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        for worker in list(crew.alive):
            await crew.shrink(worker)
        faults = seen.books.faults
        seen.books = await books(place, kafka.bootstrap, hurt=0)
        seen.books.faults += faults
        # Nobody has died, so nobody may be careful because of a death.
        seen.alarms = sum(place.shop.log_of(worker).count(ALARM) for worker in place.shop.workers)
        if seen.alarms:
            seen.books.faults.append(f"{seen.alarms} alarms, though every worker has left in order")
    finally:
        place.shop.close()
    return seen


async def _send(flow: Flow, place: Place, bootstrap: str, numbers: list[int]) -> None:
    chance = random.Random(flow.seed + 2)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    began, step = time.monotonic(), max(1, round(flow.rate / 10))
    try:
        for start in range(0, len(numbers), step):
            await asyncio.sleep(max(0.0, began + start / flow.rate - time.monotonic()))
            # Record keys at random: a repetition comes on another partition, so at another worker.
            sent = [
                await producer.send(place.topic, place.value(number), key=str(chance.random()).encode())
                for number in numbers[start : start + step]
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _look(seen: Rollout, crew: _Crew, place: Place, bootstrap: str, began: float) -> None:
    """Sample until cancelled."""
    while True:
        ends = await _ends(place, bootstrap)
        offsets = await committed(bootstrap, GROUP)
        lag = sum(end - offsets.get(where, 0) for where, end in ends.items())
        sent = sum(end for (topic, _), end in ends.items() if topic == place.topic)
        seen.samples.append(Sample(time.monotonic() - began, sent, lag, len(crew.alive)))
        await asyncio.sleep(EVERY)


async def _seen(seen: Rollout, looking: asyncio.Task[None]) -> None:
    """Wait for a look that has begun by now: the one that is under way may have begun before."""
    looks = len(seen.samples) + 2
    while len(seen.samples) < looks:
        if looking.done():
            raise AssertionError("nobody looks any more") from looking.exception()
        await asyncio.wait({looking}, timeout=EVERY / 5)


async def _rest(place: Place, bootstrap: str, unique: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while under_way := await at_rest(place, unique, bootstrap, await _ends(place, bootstrap)):
        if time.monotonic() > deadline:
            raise AssertionError(f"not at rest after {patience:g} s: {under_way}\n{place.shop.logs()}")
        await asyncio.sleep(EVERY)  # another process' state has no event


async def _ends(place: Place, bootstrap: str) -> dict[tuple[str, int], int]:
    """Where each partition ends that the application reads."""
    consumer = AIOKafkaConsumer(place.topic, place.telling, bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        return {(where.topic, where.partition): end for where, end in ends.items() if end}
    finally:
        await consumer.stop()
