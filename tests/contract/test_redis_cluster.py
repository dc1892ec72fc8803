"""The Redis store against the contract suite: on a cluster of three primaries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from consumer.ports.store import Store
from consumer.stores.redis import CLUSTER_CAPABILITIES, RedisStore
from consumer.testing.contract import cases
from tests.contract.redishand import Hand
from tests.integration.rediskit import Cluster, needed


class ClusterBackend:
    """An emptied cluster; handles are as several processes would have them."""

    def __init__(self, cluster: Cluster) -> None:
        self.capabilities = CLUSTER_CAPABILITIES
        self.url = cluster.url
        self.handles: list[RedisStore] = []
        self.hand = Hand(*(one.client() for one in cluster.servers))

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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needed()
    made = Cluster()
    try:
        asyncio.run(made.start())
        yield made
    finally:
        made.close()


@pytest.fixture
async def backend(cluster: Cluster) -> AsyncIterator[ClusterBackend]:
    await cluster.empty()
    made = ClusterBackend(cluster)
    yield made
    await made.close()


@pytest.mark.parametrize("case", cases(CLUSTER_CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
