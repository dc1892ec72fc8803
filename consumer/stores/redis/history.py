"""What this process knows of each bucket's past, to be compared by every claim with what the bucket knows itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from redis import exceptions

from consumer.errors import StoreUnavailable
from consumer.stores.redis.buckets import meta_key, prefixes
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.faults import HistoryBroken, store_fault

__all__ = ["History"]

T = TypeVar("T")


class History:
    """Epoch, last acceptance, and how many claiming calls of each worker were acknowledged, per bucket.

    A bucket that knows less has lost something: it fell back to an older copy. See `docs/redis.md`.

    Args:
        calls: how buckets are asked.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._marks: dict[int, tuple[bytes | None, int]] = {}
        self._counts: dict[tuple[int, int], int] = {}

    def seen(self, bucket: int, worker: int) -> tuple[str | None, int, int]:
        """Return what lua/history.lua calls `seen`."""
        epoch, accepted = self._marks[bucket]
        return None if epoch is None else epoch.decode(), accepted, self._counts.get((bucket, worker), 0)

    def counted(self, bucket: int, worker: int, count: int) -> None:
        """Remember an acknowledged claiming call."""
        if count > self._counts.get((bucket, worker), 0):
            self._counts[bucket, worker] = count

    async def claiming(self, buckets: Iterable[int], work: Callable[[], Awaitable[T]]) -> T:
        """Do `work`, whose scripts are told `seen` of these buckets.

        Raises:
            StoreUnavailable: also where claims may have been lost; the text names `consumer accept-history`.
        """
        wanted = list(buckets)
        for last in (False, True):
            await self._learn(wanted)
            try:
                return await work()
            except HistoryBroken:
                self.forget()
                raise
            except exceptions.ResponseError as stale:
                self.forget()  # somebody has accepted a history since
                if last:
                    raise store_fault(stale) from stale
        raise StoreUnavailable("Redis: its history was accepted twice in a moment")

    def forget(self) -> None:
        """Know nothing: what the store says next counts."""
        self._marks.clear()
        self._counts.clear()

    async def _learn(self, buckets: list[int]) -> None:
        keys = [meta_key(prefix) for prefix in prefixes(self._calls.buckets)]
        # Again while there is something to ask: another call may have forgotten everything while this one waited.
        while unknown := [bucket for bucket in buckets if bucket not in self._marks]:
            replies = await self._calls.commands([("HMGET", keys[b], "epoch", "accepted") for b in unknown])
            for bucket, (epoch, accepted) in zip(unknown, replies, strict=True):
                self._marks[bucket] = (epoch, int(accepted or 0))
