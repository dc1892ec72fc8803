"""What several of these files begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from consumer.stores.postgres import PostgresStore
from tests.integration.rediskit import Server, needed, server


@pytest.fixture
def primary() -> Iterator[Server]:
    """A Redis of the test's own, which it may hurt."""
    needed()
    with server() as made:
        yield made


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store on a fresh database."""
    made = PostgresStore(postgres_url, "shop")
    await made.migrate()
    await made.open()
    yield made
    await made.close()
