"""`world`: a running reference application, one for all tests of a module, in each of the three deployments."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.acceptance.shop import fresh_shop_topics
from tests.acceptance.worlds import EmbeddedOnPostgres, EmbeddedOnSqlite, KafkaOnPostgres, World

T = TypeVar("T")

SQLITE, POSTGRES, KAFKA = "sqlite", "postgres", "kafka+postgres"


def aside(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, so that a fixture may outlive the loop of a test."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="module", params=[SQLITE, POSTGRES, KAFKA])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The application with one worker; tests share it, so each uses keys of its own."""
    for made in _deployed(request, tmp_path_factory.mktemp("shop"), request.param):
        made.shop.start("--worker-ttl", "5")
        yield made


@pytest.fixture
def empty_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A deployment of one's own, migrated, without a worker; parametrized indirectly with its kind."""
    yield from _deployed(request, tmp_path, request.param)


def _deployed(request: pytest.FixtureRequest, folder: Path, kind: str) -> Iterator[World]:
    if kind == SQLITE:
        yield from _migrated(EmbeddedOnSqlite(folder))
        return
    server = request.getfixturevalue("postgres_service")
    server.start()
    url = aside(server.fresh_database())
    try:
        if kind == POSTGRES:
            yield from _migrated(EmbeddedOnPostgres(folder, url))
            return
        kafka = request.getfixturevalue("kafka_service")
        kafka.start()
        aside(fresh_shop_topics(kafka, partitions=3))
        yield from _migrated(KafkaOnPostgres(folder, url, kafka.bootstrap))
    finally:
        server.start()
        aside(server.drop_database(url))


def _migrated(made: World) -> Iterator[World]:
    try:
        made.shop.migrate()
        yield made
    finally:
        made.shop.close()
