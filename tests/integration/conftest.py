"""What several of these files begin with."""

from __future__ import annotations

import asyncio
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


@pytest.fixture
async def nothing_left_open() -> AsyncIterator[None]:
    """A connection under TLS that its client closes is open until the server has said goodbye, too: wait for that.

    The drivers do not, least where a log-in fails; a socket that is open when its event loop ends is a warning in some later
    test, which fails by it.
    """
    yield
    open_ones = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]  # asyncio lists them nowhere else
    async with asyncio.timeout(20):
        while not all(one.is_closing() for one in [*open_ones.values()]):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
