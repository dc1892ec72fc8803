"""Calls of scripts: whole whatever becomes of the caller, in a bounded time, one round trip for all buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from redis import exceptions
from redis.asyncio.cluster import RedisCluster

from consumer.errors import SettingsError, StoreUnavailable
from consumer.stores.redis.address import Address
from consumer.stores.redis.buckets import prefixes, script_keys
from consumer.stores.redis.connect import CONNECTIONS, Client, connect
from consumer.stores.redis.faults import DRIVER, is_stale, store_fault, unwrapped
from consumer.stores.redis.probe import hopeless
from consumer.stores.redis.scripts import Script

__all__ = ["Calls"]

T = TypeVar("T")

CALL_TIMEOUT = 20.0
"""Seconds for a call, waiting for a connection included: above the limit on one reply."""

_ELSEWHERE = (exceptions.ReadOnlyError, exceptions.ClusterDownError, exceptions.AskError)
"""Answers of a server that is not, or not now, the one to ask. (`MovedError` is an `AskError`.)"""

_pack = msgspec.msgpack.Encoder().encode


class Calls:
    """What the store's parts speak to Redis through.

    Args:
        address: where it is.
        app: shown in `CLIENT LIST`.
        buckets: of the store; see `buckets`.
    """

    def __init__(self, address: Address, app: str, buckets: int) -> None:
        self.address = address
        self.buckets = buckets
        self.trusted = False
        self._app = app
        self._prefixes = prefixes(buckets)
        self._keys = [script_keys(prefix) for prefix in self._prefixes]
        self._client: Client | None = None
        self._sentinels: list[Any] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._free = asyncio.Semaphore(CONNECTIONS)

    def key(self, bucket: int, rest: str | bytes) -> bytes:
        """Return a key of a bucket."""
        return self._prefixes[bucket].encode() + (rest.encode() if isinstance(rest, str) else rest)

    async def run(self, script: Script, bucket: int, *args: Any) -> Any:
        """Run a script in one bucket; return its reply.

        Raises:
            StoreUnavailable: nobody answers, or not with an answer; it may have happened.
        """
        [reply] = await self.run_all(script, [(bucket, args)])
        return reply

    async def run_all(
        self, script: Script, calls: Sequence[tuple[int, Sequence[Any]]], *, some: bool = False
    ) -> list[Any]:
        """Run a script once per (bucket, arguments), all at once. Each bucket is a commit of its own.

        Args:
            script: what to run.
            calls: where, and with what.
            some: return what could be had, with `None` in the places of calls that failed, unless all did.

        Returns:
            The replies, in order.

        Raises:
            StoreUnavailable: as in `run`; some may have happened.
        """
        commands = [
            ("EVALSHA", script.sha, len(self._keys[bucket]), *self._keys[bucket], _pack(args))
            for bucket, args in calls
        ]
        replies = await self._shielded(lambda: self._evaluate(script, commands))
        if some and not any(map(is_stale, replies)) and not all(isinstance(r, Exception) for r in replies):
            return [None if isinstance(reply, Exception) else reply for reply in replies]
        return [_checked(reply) for reply in replies]

    async def commands(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run plain commands, each with a key of its own bucket, at once.

        Raises:
            StoreUnavailable: as in `run`.
        """
        replies = await self._shielded(lambda: self._send(commands))
        return [_checked(reply) for reply in replies]

    async def everywhere(self, *words: str) -> list[Any]:
        """Run a command without a key on every primary; return the replies.

        Raises:
            StoreUnavailable: as in `run`.
        """

        async def work() -> list[Any]:
            client = self._open()
            if isinstance(client, RedisCluster):
                await client.initialize()
                primaries = client.get_primaries()
                ask: Callable[..., Awaitable[Any]] = client.execute_command
                return [await ask(*words, target_nodes=node) for node in primaries]
            return [await client.execute_command(*words)]  # type: ignore[no-untyped-call]

        return await self._shielded(work)

    async def close(self) -> None:
        """Wait a moment for calls under way, then let go of every connection. Never raises."""
        if self._running:
            await asyncio.wait(list(self._running), timeout=2)
        client, self._client = self._client, None
        for each in (client, *self._sentinels):
            try:
                if each is not None:
                    async with asyncio.timeout(2):
                        await each.aclose()
            except Exception:  # noqa: BLE001, S110 - it is going away; how does not matter
                pass
        self._sentinels = []

    # --------------------------------------------------------------------------------------------------- one call

    async def _shielded(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` to its end even when the caller is cancelled: half a reply must not be left on a connection."""
        task = asyncio.ensure_future(self._bounded(work))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; then nobody is left to be told

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(CALL_TIMEOUT), self._free:
                return await work()
        except TimeoutError as fault:
            raise StoreUnavailable(f"Redis has not answered for {CALL_TIMEOUT:.0f} s") from fault
        except DRIVER as error:
            why = None if self.trusted else await hopeless(self.address, self._sentinels, error)
            if why is not None:
                raise SettingsError(f"store={self.address.shown!r}: {why}") from error
            await self._look_anew()
            raise store_fault(error) from error

    def _open(self) -> Client:
        if self._client is None:
            self._client, self._sentinels = connect(self.address, self._app)
        return self._client

    async def _evaluate(self, script: Script, commands: Sequence[Sequence[Any]]) -> list[Any]:
        replies = await self._send(commands)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        if unknown:
            # A server that was restarted, or another one: it refused before doing anything.
            texts = [("EVAL", script.text, *commands[i][2:]) for i in unknown]
            for i, reply in zip(unknown, await self._send(texts), strict=True):
                replies[i] = reply
        replies = [unwrapped(reply) for reply in replies]
        if any(isinstance(reply, _ELSEWHERE) for reply in replies):
            await self._look_anew()
        return replies

    async def _send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Return a reply, or an error of the server's, for each; raise where the connection failed."""
        client = self._open()
        if len(commands) == 1:
            try:
                return [await client.execute_command(*commands[0])]
            except exceptions.ResponseError as error:
                return [error]
        pipeline = (
            client.pipeline(transaction=False) if not isinstance(client, RedisCluster) else client.pipeline()
        )
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, exceptions.ResponseError):
                raise reply
        return replies

    async def _look_anew(self) -> None:
        """Every connection may lead to a server that was the primary once."""
        client = self._client
        if isinstance(client, RedisCluster):
            await client.aclose()  # the next call asks for the cluster's layout
        elif client is not None:
            await client.connection_pool.disconnect(inuse_connections=False)


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        if is_stale(reply):
            raise reply
        raise store_fault(reply) from reply
    return reply
