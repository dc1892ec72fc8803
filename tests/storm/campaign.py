"""One storm: send, hurt, wait until everything is at rest, close the books."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.acceptance.shop import fresh_shop_topics
from tests.services import Kafka
from tests.storm.books import Books, at_rest, books
from tests.storm.places import Place
from tests.storm.plan import Plan, blows, stream
from tests.storm.weather import Restartable, Weather

__all__ = ["storm"]

PARTITIONS = 6
REST = 120.0
"""Seconds after the storm, and as long again as it was, in which one worker must have ended everything."""
AHEAD = 0.3
"""Seconds from the sending of a part to the blow."""

_CHUNK = 100


async def storm(
    plan: Plan, place: Place, kafka: Kafka, database: Restartable, say: Callable[[str], None]
) -> Books:
    """Run a storm; return its books.

    Args:
        plan: its size and seed.
        place: the deployment; its store is empty.
        kafka: the broker; the application's topics are made anew.
        database: the store's server.
        say: told what happens.

    Raises:
        AssertionError: it does not come to rest.
    """
    await fresh_shop_topics(kafka, PARTITIONS)
    place.shop.migrate()
    weather = Weather(plan, place.shop, kafka, database, say)
    numbers = stream(plan)
    try:
        await asyncio.gather(_send(plan, place, kafka.bootstrap, numbers), weather.blow())
        await _rest(place, kafka.bootstrap, len(set(numbers)), plan.seconds + REST, say)
        await weather.end()
        found = await books(place, kafka.bootstrap, weather.kills + weather.lapses)
    finally:
        place.shop.close()
    say(
        f"{weather.kills} kills, {weather.pauses} pauses ({weather.lapses} near or beyond the time-to-live),"
        f" {weather.restarts} restarts of servers"
    )
    found.faults += weather.faults
    return found


async def _send(plan: Plan, place: Place, bootstrap: str, numbers: list[int]) -> None:
    """Send a part right before each blow, so that it strikes workers that are at work.

    A chunk whose fate is not known is sent again, as senders do.
    """
    chance = random.Random(plan.seed + 2)
    began, times = time.monotonic(), [blow.at for blow in blows(plan)]
    producer: AIOKafkaProducer | None = None
    for start in range(0, len(numbers), _CHUNK):
        at = times[start * len(times) // len(numbers)] - AHEAD
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))  # the plan's own time
        # Record keys at random: the duplicates of a key come on several partitions, so at several workers.
        chunk = [
            (str(chance.random()).encode(), place.value(number)) for number in numbers[start : start + _CHUNK]
        ]
        while True:
            try:
                if producer is None:
                    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
                    await producer.start()
                sent = [await producer.send(place.topic, value, key=key) for key, value in chunk]
                await asyncio.wait_for(asyncio.gather(*sent), 20)
                break
            except (KafkaError, TimeoutError, OSError):
                await _leave(producer)
                producer = None
                await asyncio.sleep(0.5)  # before the broker is dialled again
    await _leave(producer)


async def _leave(producer: AIOKafkaProducer | None) -> None:
    if producer is not None:
        with contextlib.suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(producer.stop(), 10)


async def _rest(
    place: Place, bootstrap: str, unique: int, patience: float, say: Callable[[str], None]
) -> None:
    deadline, told = time.monotonic() + patience, 0.0
    while under_way := await at_rest(place, unique, bootstrap, await _ends(place, bootstrap)):
        if time.monotonic() > deadline:
            raise AssertionError(f"not at rest after {patience:g} s: {under_way}\n{place.shop.logs()}")
        if time.monotonic() > told + 5:
            say(f"          {under_way}")
            told = time.monotonic()
        await asyncio.sleep(0.5)  # another process' state has no event


async def _ends(place: Place, bootstrap: str) -> dict[tuple[str, int], int]:
    """Where each partition ends that the application reads."""
    consumer = AIOKafkaConsumer(place.topic, place.telling, bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        return {(where.topic, where.partition): end for where, end in ends.items() if end}
    finally:
        await consumer.stop()
