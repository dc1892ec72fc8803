"""Offsets are committed behind: one commit in flight, explicit offsets, only what has moved, never backwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.partition import Partition

__all__ = ["Committer"]

_log = logging.getLogger(__name__)
_AFTER_FAILURE = 1.0
_LAST_WORDS = 1.0


class Committer:
    """The only one who commits.

    A lost commit loses nothing (the messages come again and are recognised), so failures are logged and tried again; they
    are never raised.

    Args:
        commit: sends offsets to the broker, in the consumer's present generation.
        partitions: the partitions that are ours now.
        interval: seconds between two commits at least.
        timeout: seconds for one commit.
        committed: called after each successful commit.
    """

    def __init__(
        self,
        commit: Callable[[Mapping[TopicPartition, int]], Awaitable[None]],
        partitions: Callable[[], Iterable[Partition]],
        *,
        interval: float,
        timeout: float,
        committed: Callable[[], None],
    ) -> None:
        self._commit = commit
        self._partitions = partitions
        self._interval = interval
        self._timeout = timeout
        self._committed = committed
        self._moved = asyncio.Event()
        self._in_flight: asyncio.Task[bool] | None = None
        self._carried: tuple[Partition, ...] = ()
        self._settling = False

    def moved(self) -> None:
        """Say that a watermark has moved."""
        self._moved.set()

    async def run(self) -> None:
        """Commit behind, until cancelled."""
        while True:
            await self._moved.wait()
            pause = self._interval
            if not self._settling:
                self._moved.clear()
                self._in_flight = asyncio.create_task(self._once(self._timeout))
                await asyncio.wait({self._in_flight})
                if self._in_flight.cancelled() or not self._in_flight.result():
                    self._moved.set()
                    pause = _AFTER_FAILURE
            await asyncio.sleep(pause)

    async def settle(self, seconds: float) -> bool:
        """Commit what has moved, now, in at most `seconds`. After it no commit is under way.

        A commit that outlives its assignment would be sent in the next generation, for a partition that may be somebody
        else's by then: one that is still in flight at the end is cancelled.

        Returns:
            Whether everything acknowledged so far is committed.
        """
        self._settling = True
        try:
            await self._end_in_flight(seconds / 2)
            return await self._once(seconds / 2)
        finally:
            self._settling = False

    async def _end_in_flight(self, seconds: float) -> None:
        task = self._in_flight
        if task is None or task.done():
            return
        # aiokafka repeats a commit for a topic that is not there, until it is there again: then it is another one.
        deleted = any(not partition.live for partition in self._carried)
        await asyncio.wait({task}, timeout=0 if deleted else seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_LAST_WORDS)

    async def _once(self, seconds: float) -> bool:
        moved = {
            partition: offset
            for partition in self._partitions()
            if (offset := partition.to_commit()) is not None
        }
        self._carried = tuple(moved)
        if not moved:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._commit({partition.tp: offset for partition, offset in moved.items()})
        except TimeoutError:
            _log.warning("offsets not committed: no answer within %.1f s; trying again", seconds)
            return False
        except (
            KafkaError
        ) as error:  # CommitFailedError: a rebalance is under way, its end brings the messages again
            _log.warning("offsets not committed: %s; trying again", str(error) or type(error).__name__)
            return False
        except Exception:  # noqa: BLE001 - aiokafka's own futures and assertions, when its tasks meet in an outage
            _log.exception("offsets not committed; trying again")
            return False
        for partition, offset in moved.items():
            partition.committed = max(partition.committed, offset)
        self._committed()
        return True
