"""Fixtures for real services; `tests/services` says where they come from.

`postgres_service`, `kafka_service`, `redis_service` are the run's servers. `postgres`, `kafka`, `redis` are the same,
known to be up when the test begins and put back up when it ends. `postgres_url` and `redis_url` are fresh databases.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import pytest

from tests.services import ALL, Kafka, Postgres, Redis, Service, Unavailable, close, required

S = TypeVar("S", bound=Service)


@pytest.fixture(scope="session")
def postgres_service() -> Postgres:
    return _shared(Postgres)


@pytest.fixture(scope="session")
def kafka_service() -> Kafka:
    return _shared(Kafka)


@pytest.fixture(scope="session")
def redis_service() -> Redis:
    return _shared(Redis)


@pytest.fixture
def postgres(postgres_service: Postgres) -> Iterator[Postgres]:
    yield from _up(postgres_service)


@pytest.fixture
def kafka(kafka_service: Kafka) -> Iterator[Kafka]:
    yield from _up(kafka_service)


@pytest.fixture
def redis(redis_service: Redis) -> Iterator[Redis]:
    yield from _up(redis_service)


@pytest.fixture
async def postgres_url(postgres: Postgres) -> AsyncIterator[str]:
    url = await postgres.fresh_database()
    yield url
    postgres.start()
    await postgres.drop_database(url)


@pytest.fixture
async def redis_url(redis: Redis) -> str:
    return await redis.fresh_database()


def _shared(kind: type[S]) -> S:
    try:
        return kind.shared()
    except Unavailable as error:
        reason = f"{kind.name}: {error}"
        if required():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def _up(service: S) -> Iterator[S]:
    service.start()
    yield service
    service.start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: where two processes share the tests, the last ones should be short."""
    items.sort(key=lambda item: "storm" not in item.path.parts)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download and start what the chosen tests need now: it does not count against the first test's time."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for name, kind in ALL.items():
        if f"{name}_service" in fixtures:
            try:
                kind.fetch()
                kind.shared()
            except Unavailable:
                continue  # the fixture says so, with the reason


def pytest_report_header() -> str:
    return (
        "services: required"
        if required()
        else "services: those that can be had (REQUIRE_SERVICES=1 demands all)"
    )


def pytest_unconfigure() -> None:
    close()
