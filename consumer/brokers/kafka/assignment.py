"""Which partitions are ours, and the orderly way to give them up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.partition import Partition

__all__ = ["Assignment"]

_log = logging.getLogger(__name__)


class Assignment(ConsumerRebalanceListener):  # aiokafka asks for this class by isinstance
    """The partitions of this member, and aiokafka's listener that changes them.

    aiokafka calls it from a background task, swallows what it raises, and rejoins only when it returns: so everything
    here is bounded in time, caught and logged loudly.

    Args:
        drain: seconds that `on_revoked` has.
        settle: commits what was acknowledged, bounded by itself.
        gone: the topics that were there and are no more.

    Attributes:
        on_revoked: finishes what runs; awaited before partitions are given up.
        partitions: ours now, by topic and number.
        rebalances: how often partitions were assigned.
        ready: set while partitions may be read: not before the first assignment, nor during a rebalance.
    """

    def __init__(
        self,
        *,
        drain: float,
        settle: Callable[[], Awaitable[object]],
        gone: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.on_revoked: Callable[[], Awaitable[None]] | None = None
        self._drain = drain
        self._settle = settle
        self._gone = gone
        self._epoch = 0
        self.rebalances = 0
        self.partitions: dict[TopicPartition, Partition] = {}
        self.ready = asyncio.Event()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Stop reading, let what runs finish for a bounded time, commit, give up. Never raises."""
        self.ready.clear()
        if not self.partitions:
            return
        _log.info("rebalance: giving up %s", _names(revoked))
        self._give_up_deleted()
        try:
            for step in (self._finish, self._settle):
                try:
                    await step()
                except Exception:  # noqa: BLE001 - a background task of aiokafka calls this, and it must rejoin
                    _log.exception(
                        "rebalance: could not finish cleanly; unfinished messages are delivered again"
                    )
        finally:
            self.give_up()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Take the partitions of a new generation, each in a new epoch."""
        self.give_up()
        self._epoch += 1
        self.rebalances += 1
        self.partitions = {tp: Partition(tp, self._epoch) for tp in sorted(assigned)}
        _log.info("rebalance: assigned %s", _names(assigned) or "nothing")
        self.ready.set()

    def ours(self) -> list[Partition]:
        """Return the partitions that are ours now."""
        return list(self.partitions.values())

    def renew(self, partition: Partition) -> Partition:
        """Begin a new epoch for one partition that stays ours: what is in hand of it is given up."""
        partition.live = False
        self._epoch += 1
        fresh = self.partitions[partition.tp] = Partition(partition.tp, self._epoch)
        return fresh

    def give_up(self) -> None:
        """End the epoch: acknowledgements and `held` of what was delivered in it are void from now on."""
        self.ready.clear()
        for partition in self.partitions.values():
            partition.live = False
        self.partitions = {}

    def _give_up_deleted(self) -> None:
        """Give up first what belongs to a deleted topic: one made anew under its name must not get the old one's offsets."""
        gone = frozenset(self._gone())
        for partition in self.partitions.values():
            if partition.tp.topic in gone:
                _log.error("%s: its topic was deleted; what was in hand of it is given up", partition)
                partition.live = False

    async def _finish(self) -> None:
        if self.on_revoked is None:
            return
        drain = asyncio.ensure_future(self.on_revoked())
        await asyncio.wait({drain}, timeout=self._drain)
        if not drain.done():
            _log.error(
                "rebalance: work was not finished within %.0f s; its messages are delivered again",
                self._drain,
            )
            drain.cancel()
        else:
            await drain


def _names(partitions: Collection[TopicPartition]) -> str:
    return ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(partitions))
