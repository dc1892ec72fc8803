"""The Redis store against the contract suite on the other versions that it promises: 6.2 and 7.0.

`test_redis.py` has the one that `tests.services` finds, which is 8.2 where none is installed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from consumer.stores.redis import CAPABILITIES
from consumer.testing.contract import cases
from tests.contract.test_redis import RedisBackend
from tests.integration.rediskit import Server
from tests.services import Unavailable, required

VERSIONS = {"6": b"6.2.", "7": b"7.0."}


@pytest.fixture(scope="module", params=VERSIONS)
def other(request: pytest.FixtureRequest) -> Iterator[Server]:
    try:
        made = Server(version=request.param)
    except Unavailable as error:
        if required():
            pytest.fail(f"redis {request.param}: {error}", pytrace=False)
        pytest.skip(f"redis {request.param}: {error}")
    made.start()
    yield made
    made.close()


@pytest.fixture
async def backend(other: Server) -> AsyncIterator[RedisBackend]:
    await other.ask("FLUSHALL")
    made = RedisBackend(other.url)
    yield made
    await made.close()


async def test_it_is_that_version(other: Server, request: pytest.FixtureRequest) -> None:
    version = request.node.callspec.params["other"]
    info = await other.ask("INFO", "server")
    said = info["redis_version"] if isinstance(info, dict) else info.decode().partition("redis_version:")[2]
    assert said.startswith(VERSIONS[version].decode()), said


@pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
async def test_contract(case, backend):
    await case.run(backend)
