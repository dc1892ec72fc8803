"""A broker in memory: partitions that are lists, and a consumer group of one that may lose and regain them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from consumer.message import Delivery, Headers, Message
from consumer.rules.watermark import Watermark

__all__ = ["ListSource"]

Place = tuple[str, int]
"""Topic and partition."""

Receipt = tuple[str, int, int, int]
"""Topic, partition, offset, and the assignment that it was delivered in."""


@dataclass(slots=True)
class _Partition:
    """A log, how far it is committed, and what this assignment of it has in hand."""

    log: list[Message] = field(default_factory=list)
    committed: int = 0
    position: int = 0
    mark: Watermark = field(default_factory=lambda: Watermark(0))


class ListSource:
    """`ports.transport.Source` over lists. What is not committed comes again after `redeliver`.

    Args:
        batch: deliveries per poll at most.
        in_hand_limit: unacknowledged deliveries per partition before it is paused.
    """

    def __init__(self, *, batch: int = 500, in_hand_limit: int = 1_000) -> None:
        self._batch = batch
        self._in_hand_limit = in_hand_limit
        self._partitions: dict[Place, _Partition] = {}
        self._topics: set[str] = set()
        self._on_revoked: Callable[[], Awaitable[None]] | None = None
        self._assignment = 0
        self._more = asyncio.Event()
        self.acks: list[tuple[str, int, int]] = []
        self.delivered: list[tuple[str, int, int]] = []
        self.stopped = False

    # --------------------------------------------------------------------------------------------- for the test

    def add(
        self,
        topic: str,
        value: object,
        *,
        partition: int = 0,
        headers: Headers = (),
        record_key: bytes | None = None,
    ) -> int:
        """Append a message (bytes and `None` as they are, else JSON) and return its offset."""
        raw = value if isinstance(value, bytes) or value is None else msgspec.json.encode(value)
        log = self._partitions.setdefault((topic, partition), _Partition()).log
        offset = len(log)
        log.append(
            Message(
                topic,
                raw,
                headers,
                record_key=record_key,
                source="kafka",
                position=f"{topic}/{partition}/{offset}",
            )
        )
        self._more.set()
        return offset

    async def redeliver(self) -> None:
        """Lose every partition and get it back: what was not committed is delivered again, under new receipts."""
        await self.begin_rebalance()
        self._assignment += 1
        for part in self._partitions.values():
            part.position = part.committed
            part.mark = Watermark(part.committed)
        self._more.set()

    async def begin_rebalance(self) -> None:
        """Ask for the partitions: until they are lost, what was read before is handed over and may be acknowledged."""
        if self._on_revoked is not None:
            await self._on_revoked()

    def committed(self, topic: str, partition: int = 0) -> int:
        """The first offset that would come again."""
        return self._partitions[topic, partition].committed

    @property
    def settled(self) -> bool:
        """Whether everything that was added is acknowledged."""
        return all(part.committed == len(part.log) for part in self._partitions.values())

    # ------------------------------------------------------------------------------------------------- the port

    async def start(self, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
        self._topics = set(topics)
        self._on_revoked = on_revoked
        self._assignment += 1

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        taken = self._take(min(limit, self._batch))
        if taken:
            await asyncio.sleep(0)
            return taken
        self._more.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._more.wait()
        except TimeoutError:
            return []
        return self._take(min(limit, self._batch))

    def held(self, delivery: Delivery) -> bool:
        receipt: Receipt = delivery.receipt
        return receipt[3] == self._assignment

    def ack(self, delivery: Delivery) -> None:
        topic, partition, offset, _ = delivery.receipt
        if not self.held(delivery):
            return
        part = self._partitions[topic, partition]
        self.acks.append((topic, partition, offset))
        if part.mark.acked(offset) and part.mark.position is not None:
            part.committed = part.mark.position
        self._more.set()  # a paused partition may go on

    async def stop(self) -> None:
        self.stopped = True

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for (topic, partition), part in self._partitions.items():
            if topic not in self._topics:
                continue
            while (
                part.position < len(part.log)
                and len(taken) < limit
                and part.mark.in_hand < self._in_hand_limit
            ):
                offset = part.position
                part.position += 1
                part.mark.delivered(offset)
                self.delivered.append((topic, partition, offset))
                taken.append(Delivery(part.log[offset], (topic, partition, offset, self._assignment)))
        return taken
