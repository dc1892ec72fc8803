"""A hand on the data of a Redis store, past the store: its times are moved."""

from __future__ import annotations

from typing import Any

DAYS = 11 * 86_400 * 1_000_000

EARLIER = """
local row = cmsgpack.unpack(redis.call('GET', KEYS[1]))
local field = ARGV[1]
if row[field] then
  row[field] = row[field] - ARGV[2]
  redis.call('SET', KEYS[1], cmsgpack.pack(row))
end
"""


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
        await self._rows("d", DAYS)
        for pattern in ("*}:d:*", "*}:q:*", "*}:od:*"):
            await self._sets(pattern, DAYS)

    async def age(self, seconds: float) -> None:
        """Every entry was created that much earlier."""
        micros = round(seconds * 1_000_000)
        await self._rows("o", micros)
        await self._sets("*}:i:*", micros)

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()

    async def _rows(self, field: str, micros: int) -> None:
        for client in self.clients:
            async for key in client.scan_iter("*}:e:*"):
                await client.eval(EARLIER, 1, key, field, micros)

    async def _sets(self, pattern: str, micros: int) -> None:
        for client in self.clients:
            async for key in client.scan_iter(pattern):
                for member, score in await client.zrange(key, 0, -1, withscores=True):
                    await client.zadd(key, {member: int(score) - micros})
