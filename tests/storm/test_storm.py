"""A short storm, the same each time: kills, pauses, a broker and a database restart, 1 -> 4 -> 1 workers; then the books.

`make storm` runs the long one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.rediskit import server
from tests.services import Kafka, Postgres
from tests.storm.campaign import storm
from tests.storm.places import OnPostgres, OnRedis
from tests.storm.plan import DUPLICATES, Plan, stream

SHORT = Plan(seed=11, seconds=50, messages=9_000, ttl=4)


@pytest.mark.timeout(240)
async def test_a_storm_on_postgres(
    kafka: Kafka, postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    """Mutants: a group's claim without a gate's worth; ack of what runs elsewhere; a closed worker that settles."""
    found = await storm(SHORT, OnPostgres(tmp_path, postgres_url, kafka.bootstrap), kafka, postgres, print)
    print(found)
    assert not found.wrong, str(found)
    assert found.handled >= found.unique - found.in_doubt
    assert found.unique == len(set(stream(SHORT)))
    assert found.suppressed >= SHORT.messages * DUPLICATES


@pytest.mark.timeout(240)
async def test_a_storm_on_redis(kafka: Kafka, tmp_path: Path) -> None:
    """Mutants: NX without a token; claim and settle in two calls."""
    with server() as redis:
        found = await storm(SHORT, OnRedis(tmp_path, redis.url, kafka.bootstrap), kafka, redis, print)
    print(found)
    assert not found.wrong, str(found)
    assert found.unique == len(set(stream(SHORT)))
    assert found.suppressed >= SHORT.messages * DUPLICATES
