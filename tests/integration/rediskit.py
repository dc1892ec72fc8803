"""Redis servers of a test's own: alone, as primary and replica, as a cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio as aioredis

from tests.services import required
from tests.services.base import HOST, Unavailable, answers, folder_for, free_port
from tests.services.ports import pair
from tests.services.process import LocalProcess
from tests.services.redis import Redis

SLOTS = 16_384
BUS = 10_000
"""How far above its port a node of a cluster speaks with the others."""


def needed() -> None:
    """Skip what needs a Redis where there is none to be had; fail it where services are required."""
    try:
        Redis.packages()
    except Unavailable as error:
        if required():
            pytest.fail(f"redis: {error}", pytrace=False)
        pytest.skip(f"redis: {error}")  # CI sets REQUIRE_SERVICES: there it fails


class Server:
    """A Redis server with data of its own; it keeps them over stop and start.

    Args:
        options: of `redis-server`; without any, its append-only file is on.
        port: a free one, if it is not given.
        version: the major one; else as `tests.services` finds it.
    """

    def __init__(self, *options: str, port: int | None = None, version: str | None = None) -> None:
        self.port = port or free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        self.folder = folder_for("redis")
        program = Redis.packages(version)
        command = [str(program), "--port", str(self.port), "--bind", HOST, "--dir", str(self.folder)]
        command += ["--save", "", "--repl-diskless-sync-delay", "0", *(options or ("--appendonly", "yes"))]
        self.process = LocalProcess(
            "a Redis of this test", command, self.folder, lambda: answers(self.port, b"PING\r\n", b"+PONG")
        )

    def start(self) -> None:
        self.process.start()

    def stop(self) -> None:
        """An orderly end; the data are kept."""
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    def client(self) -> aioredis.Redis:
        return aioredis.Redis(host=HOST, port=self.port)

    async def ask(self, *words: Any) -> Any:
        async with self.client() as client:
            return await client.execute_command(*words)


@contextlib.contextmanager
def server(*options: str):
    made = Server(*options)
    made.start()
    try:
        yield made
    finally:
        made.close()


async def until(true: Callable[[], Any], limit: float = 30.0) -> None:
    """Wait until an async question is answered yes."""
    async with asyncio.timeout(limit):
        while not await true():  # noqa: ASYNC110 - another process' state has no event
            await asyncio.sleep(0.02)


async def replica_of(primary: Server, replica: Server) -> None:
    """Attach, and wait until everything is copied."""
    await replica.ask("REPLICAOF", HOST, primary.port)

    async def attached() -> bool:
        return "master_link_status:up" in _text(await replica.ask("INFO", "replication"))

    await until(attached)


def _text(info: Any) -> str:
    if isinstance(info, dict):
        return "\n".join(f"{name}:{value}" for name, value in info.items())
    return info.decode() if isinstance(info, bytes) else str(info)


class Cluster:
    """Three primaries, each with a third of the slots."""

    def __init__(self) -> None:
        options = ("--appendonly", "yes", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.servers = [Server(*options, port=pair(BUS)) for _ in range(3)]
        self.url = "redis+cluster://" + ",".join(f"{HOST}:{one.port}" for one in self.servers)

    async def start(self) -> None:
        for one in self.servers:
            one.start()
        for number, one in enumerate(self.servers):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
            await one.ask("CLUSTER", "ADDSLOTS", *range(first, last))
            await one.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for one in self.servers[1:]:
            await self.servers[0].ask("CLUSTER", "MEET", HOST, one.port)
        for one in self.servers:

            async def whole(one: Server = one) -> bool:
                info = await one.ask("CLUSTER", "INFO")
                told = _text(info)
                return "cluster_state:ok" in told and "cluster_known_nodes:3" in told

            await until(whole)

    async def empty(self) -> None:
        for one in self.servers:
            await one.ask("FLUSHALL")

    def close(self) -> None:
        for one in self.servers:
            one.close()


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    try:
        await made.start()
        yield made
    finally:
        made.close()
