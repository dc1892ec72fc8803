"""The Redis store against the contract suite: on one server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis

from consumer.ports.store import Store
from consumer.stores.redis import CAPABILITIES, RedisStore
from consumer.testing.contract import cases
from tests.contract.redishand import Hand
from tests.services import Redis


class RedisBackend:
    """An empty database; handles are as several processes would have them."""

    def __init__(self, url: str) -> None:
        self.capabilities = CAPABILITIES
        self.url = url
        self.handles: list[RedisStore] = []
        self.hand = Hand(aioredis.Redis.from_url(url))

    async def open(self, app: str = "shop") -> Store:
        store = RedisStore(self.url, app)
        self.handles.append(store)
        await store.migrate()
        await store.open()
        return store

    async def kill(self, store: Store, worker: int) -> None:
        await self.hand.kill(worker)

    async def hasten(self) -> None:
        await self.hand.hasten()

    async def age(self, seconds: float) -> None:
        await self.hand.age(seconds)

    async def close(self) -> None:
        for store in self.handles:
            await store.close()
        await self.hand.close()


@pytest.fixture
async def backend(redis_service: Redis) -> AsyncIterator[RedisBackend]:
    made = RedisBackend(await redis_service.fresh_database())
    yield made
    await made.close()


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
