"""Each service answers, can be taken away and given back with its data, and ends with us."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from tests.services import Kafka, Postgres, Redis
from tests.services.base import Given

# ------------------------------------------------------------------------------------------------------- postgres


async def scalar(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_answers(postgres_url):
    assert await scalar(postgres_url, "select 1") == 1


async def test_postgres_is_a_durable_one_with_room(postgres_url):
    assert await scalar(postgres_url, "show fsync") == "on"
    assert await scalar(postgres_url, "show synchronous_commit") == "on"
    assert int(str(await scalar(postgres_url, "show max_connections"))) >= 100


async def test_every_fresh_database_is_empty_and_its_own(postgres: Postgres, postgres_url):
    other = await postgres.fresh_database()
    await scalar(other, "create table t()")
    assert await scalar(postgres_url, "select count(*) from pg_tables where schemaname = 'public'") == 0
    await postgres.drop_database(other)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await scalar(other, "select 1")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_postgres_comes_back_with_its_data(postgres: Postgres, postgres_url, end):
    await scalar(postgres_url, "create table kept as select 42 as answer")
    await asyncio.to_thread(getattr(postgres, end))
    with pytest.raises(OSError, match="refused|failed"):
        await scalar(postgres_url, "select 1")
    await asyncio.to_thread(postgres.start)
    assert await scalar(postgres_url, "select answer from kept") == 42


async def test_a_paused_postgres_keeps_its_connections_and_says_nothing(postgres: Postgres, postgres_url):
    connection = await asyncpg.connect(postgres_url)
    postgres.pause()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            asyncio.shield(answer := asyncio.ensure_future(connection.fetchval("select 1"))), 0.3
        )
    postgres.resume()
    assert await answer == 1
    await connection.close()


# ---------------------------------------------------------------------------------------------------------- kafka


async def produce(kafka: Kafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(kafka: Kafka, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    async with consumer:
        await consumer.seek_to_beginning(partition)
        return (await consumer.getone()).value


async def test_kafka_answers(kafka: Kafka):
    topic = await kafka.fresh_topic()
    await produce(kafka, topic, b"one")
    assert await consume(kafka, topic) == b"one"


async def test_topics_have_the_partitions_and_settings_asked_for(kafka: Kafka):
    topic = await kafka.fresh_topic(partitions=3, retention_ms="60000")
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        assert await producer.partitions_for(topic) == {0, 1, 2}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_kafka_comes_back_with_its_data(kafka: Kafka, end):
    topic = await kafka.fresh_topic()
    await produce(kafka, topic, b"kept")
    await asyncio.to_thread(getattr(kafka, end))
    with pytest.raises(OSError, match="refused|failed"):
        await asyncio.open_connection(*kafka.bootstrap.split(":"))
    await asyncio.to_thread(kafka.start)
    assert await consume(kafka, topic) == b"kept"


# ---------------------------------------------------------------------------------------------------------- redis


async def test_redis_answers(redis_url):
    async with redis.asyncio.from_url(redis_url) as client:
        assert await client.ping()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_redis_comes_back_with_its_data(redis: Redis, redis_url, end):
    from redis.asyncio import from_url

    async with from_url(redis_url) as client:
        await client.set("kept", "42")
    await asyncio.sleep(1.1 if end == "kill" else 0)  # the append-only file is synced every second
    await asyncio.to_thread(getattr(redis, end))
    await asyncio.to_thread(redis.start)
    async with from_url(redis_url) as client:
        assert await client.get("kept") == b"42"


# -------------------------------------------------------------------------------------------------- the guardian


PROGRAM = """
import sys, time
from tests.services import Postgres
postgres = Postgres.shared()
print(postgres.server.pid, postgres.server._folder, flush=True)
time.sleep(60)
"""


def test_a_server_ends_with_a_killed_owner(postgres: Postgres):
    if isinstance(postgres.server, Given):
        pytest.skip("needs a server of its own to lose")
    environment = {**os.environ, "TEST_SERVICES": "local"}
    owner = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 30
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(folder).exists()
    still = subprocess.run(
        ["ps", "-p", pid, "-o", "stat="], capture_output=True, text=True, check=False
    ).stdout.strip()
    assert still[:1] in {"", "Z"}  # the letters after it say how it ran: N where the tests run under `nice`
