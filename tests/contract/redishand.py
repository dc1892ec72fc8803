"""A hand on the data of a Redis store, past the store: its times are moved."""

from __future__ import annotations

from typing import Any

DAYS = 11 * 86_400 * 1_000_000


class Hand:
    """Works on one server, or on every primary of a cluster.

    Args:
        clients: of the servers.
    """

    def __init__(self, *clients: Any) -> None:
        self.clients = clients

    async def kill(self, worker: int) -> None:
        """Its last beat is a day ago. A lapse counts from when the server was met too: so its time-to-live is 0."""
        for client in self.clients:
            async for key in client.scan_iter(f"*n:{worker}"):
                await client.hset(key, mapping={"beat": 0, "ttl": 0})

    async def hasten(self) -> None:
        """Every due time is 11 days earlier; their order stays."""
        for client in self.clients:
            async for key in client.scan_iter("*:e:*"):
                due = await client.hget(key, "d")
                if due:
                    await client.hset(key, "d", int(due) - DAYS)
            for pattern in ("*}:d:*", "*}:q:*", "*}:od:*"):
                await self._shift(client, pattern, DAYS)

    async def age(self, seconds: float) -> None:
        """Every entry was created that much earlier."""
        micros = round(seconds * 1_000_000)
        for client in self.clients:
            async for key in client.scan_iter("*:e:*"):
                await client.hset(key, "o", int(await client.hget(key, "o")) - micros)
            await self._shift(client, "*}:i:*", micros)

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()

    @staticmethod
    async def _shift(client: Any, pattern: str, micros: int) -> None:
        async for key in client.scan_iter(pattern):
            for member, score in await client.zrange(key, 0, -1, withscores=True):
                await client.zadd(key, {member: int(score) - micros})
