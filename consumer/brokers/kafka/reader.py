"""Reading: partitions in rotation, each up to its own limit, and what to do when one cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
)
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.assignment import Assignment
from consumer.brokers.kafka.connect import Consumer, is_refusal, translated
from consumer.brokers.kafka.partition import Partition
from consumer.brokers.kafka.position import FirstPosition, begin, recover
from consumer.brokers.kafka.record import size_of, to_delivery
from consumer.brokers.kafka.rescue import blames_a_name, rescue
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Delivery

__all__ = ["Reader"]

_log = logging.getLogger(__name__)

_GLANCE = 0.05  # seconds to wait at most while a full partition may get room again
_LATE = 0.1  # seconds that a read may be late before it is broken off
_MEND = 5.0  # seconds to find a position
_RETRY = 5.0  # seconds until a partition with unreadable bytes, or one that is refused, is tried again
_PAUSE = 1.0  # seconds until a partition is tried again after the broker could not help it


class Reader:
    """Takes records out of one consumer.

    Back-pressure is leaving a full partition out of the question, while the others are asked all the time. aiokafka's
    `pause` would have the same effect but throws away what is fetched already, and fetches it again on every `resume`.

    Every read asks for one partition, or for one record: aiokafka drops the records of one partition when the next one
    in the same answer raises, and they would count as read.

    Args:
        bootstrap: for messages to people.
        consumer: subscribed with `assignment` as its listener.
        assignment: the partitions that are ours.
        first: where a partition without a committed offset begins.
        in_hand_limit: deliveries of one partition in hand at most.
        in_hand_bytes: bytes in hand of all partitions together, about: each has an equal share, and is not read on while it
            is used up. The last fetch may go beyond it.
        moved: called when a partition has got a position that should be committed.
    """

    def __init__(
        self,
        bootstrap: str,
        consumer: Consumer,
        assignment: Assignment,
        *,
        first: FirstPosition,
        in_hand_limit: int,
        in_hand_bytes: int,
        moved: Callable[[], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._consumer = consumer
        self._assignment = assignment
        self._first = first
        self._in_hand_limit = in_hand_limit
        self._in_hand_bytes = in_hand_bytes
        self._moved = moved
        self._turn = 0
        self._read: deque[Delivery] = deque()
        self._room = asyncio.Event()

    def room(self) -> None:
        """Say that a partition may have got room."""
        self._room.set()

    async def read(self, limit: int, deadline: float) -> list[Delivery]:
        """Return up to `limit` deliveries, waiting until `deadline` (monotonic seconds) for the first.

        What a cancelled call has read is returned by the next one.

        Raises:
            SettingsError: access is refused or a codec is missing.
        """
        if not self._read:
            await self._sweep(limit)
        if not self._read and (timeout := deadline - time.monotonic()) > 0:
            await self._wait(timeout)
            await self._sweep(limit - len(self._read))
        return self._hand_over(limit)

    def _hand_over(self, limit: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        while self._read and len(deliveries) < limit:
            delivery = self._read.popleft()
            if delivery.receipt[0].live:
                deliveries.append(delivery)
        return deliveries

    # --- what may be read ---------------------------------------------------------------------------------------------

    def _free(self, partition: Partition) -> int:
        if not partition.live or self.heavy(partition):
            return 0
        return self._in_hand_limit - partition.watermark.in_hand

    def heavy(self, partition: Partition) -> bool:
        """Whether the bytes in hand of this partition have used up its share."""
        return partition.held * len(self._assignment.partitions) >= self._in_hand_bytes

    def _eligible(self) -> list[Partition]:
        """The partitions with room, beginning with another one each time."""
        now = time.monotonic()
        partitions = list(self._assignment.partitions.values())
        if partitions:
            self._turn = (self._turn + 1) % len(partitions)
            partitions = partitions[self._turn :] + partitions[: self._turn]
        return [p for p in partitions if self._free(p) > 0 and p.retry_at <= now]

    async def _sweep(self, limit: int) -> None:
        """Take what is fetched already: an equal share of each partition, then what is left of the limit."""
        partitions = self._eligible()
        if not partitions or limit <= 0:
            return
        share = -(-limit // len(partitions))
        more = [p for p in partitions if await self._take(p, share, limit) == share]
        for partition in more:
            await self._take(partition, limit, limit)

    async def _take(self, partition: Partition, share: int, limit: int) -> int:
        """Take up to `share` records that are fetched already; return how many."""
        wanted = min(share, self._free(partition), limit - len(self._read))
        taken = self._hand_out(partition, wanted)
        while taken < wanted and self._assignment.ready.is_set() and partition.live:
            count = 1 if partition.singly else wanted - taken
            try:
                found = await self._consumer.getmany(partition.tp, timeout_ms=0, max_records=count)
            except Exception as error:  # noqa: BLE001 - the parser of records raises whatever their bytes make it raise
                await self._mend(partition, error)
                taken += self._hand_out(partition, wanted - taken)
                break
            came = self._accept(partition, found.get(partition.tp, ()))
            taken += came
            if came < count or not partition.singly:
                break
        return taken

    def _accept(self, partition: Partition, records: Sequence[Any]) -> int:
        if not records:
            return 0
        if partition.trouble:  # what stood in the way is behind us
            partition.trouble, partition.singly = "", False
        take, keep = partition.delivered, self._read.append
        for record in records:
            delivery = to_delivery(record, partition)
            with contextlib.suppress(ValueError):  # in hand already
                take(record.offset, size_of(delivery.message))
                keep(delivery)
        partition.newest = records[-1].offset
        partition.stamp(records[0].offset, records[0].timestamp / 1000)
        return len(records)

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self, timeout: float) -> None:
        """Wait for one record of any partition with room, or for room."""
        # What was rescued comes before what can be fetched.
        partitions = [p for p in self._eligible() if not p.rescued]
        if not partitions:
            # All are full, or none is ours: whoever polls in a loop must not keep the event loop busy.
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._room.wait()
            return
        if len(partitions) < len(self._assignment.partitions):
            timeout = min(timeout, _GLANCE)
        try:
            # A rebalance that begins now keeps aiokafka waiting for its end, whatever the time-out says.
            async with asyncio.timeout(timeout + _LATE):
                found = await self._consumer.getmany(
                    *[p.tp for p in partitions], timeout_ms=int(timeout * 1000), max_records=1
                )
        except TimeoutError:
            return
        except Exception as error:  # noqa: BLE001 - as in `_take`
            await self._blame(partitions, error)
            return
        for tp, records in found.items():
            self._accept_late(tp, records)

    def _accept_late(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Accept what was read after a wait, in which the assignment may have changed."""
        partition = self._assignment.partitions.get(tp)
        if partition is not None and self._assignment.ready.is_set():
            self._accept(partition, records)
        elif records:
            with contextlib.suppress(KafkaError):  # not ours any more: nobody reads on from there
                self._consumer.seek(tp, records[0].offset)

    async def _blame(self, partitions: Sequence[Partition], error: Exception) -> None:
        """Find the partition that `error`, raised while waiting for several, belongs to."""
        if isinstance(error, NoOffsetForPartitionError):
            guilty = {error.args[0]}
        elif isinstance(error, OffsetOutOfRangeError):
            guilty = set(error.args[0])
        elif isinstance(error, RecordTooLargeError):
            guilty = {error.args[1]}
        elif len(partitions) == 1 or is_refusal(error):
            guilty = {partitions[0].tp}
        else:  # bytes that cannot be parsed: it will be raised again for the guilty one
            for partition in partitions:
                await self._probe(partition)
            return
        for partition in partitions:
            if partition.tp in guilty:
                await self._mend(partition, error)

    async def _probe(self, partition: Partition) -> None:
        if not partition.live or not self._assignment.ready.is_set():
            return
        try:
            async with asyncio.timeout(_GLANCE + _LATE):
                found = await self._consumer.getmany(
                    partition.tp, timeout_ms=int(_GLANCE * 1000), max_records=1
                )
        except TimeoutError:
            return
        except Exception as error:  # noqa: BLE001 - as in `_take`
            await self._mend(partition, error)
            return
        for tp, records in found.items():
            self._accept_late(tp, records)

    # --- trouble ------------------------------------------------------------------------------------------------------

    async def _mend(self, partition: Partition, error: Exception) -> None:
        """Do what can be done about `error`; the partition is tried again later where nothing can."""
        try:
            with translated(self._bootstrap):
                async with asyncio.timeout(_MEND):
                    if isinstance(error, NoOffsetForPartitionError):
                        await begin(self._consumer, partition, self._first)
                        self._moved()
                    elif isinstance(error, OffsetOutOfRangeError):
                        await recover(
                            self._consumer, partition, self._assignment, error.args[0][partition.tp]
                        )
                        self._moved()
                    elif isinstance(error, RecordTooLargeError):
                        self._go_back(partition, error)
                    elif isinstance(error, KafkaError) and not isinstance(error, CorruptRecordException):
                        raise error
                    elif not (blames_a_name(error) and partition.singly and await self._rescue(partition)):
                        self._set_aside(partition, error)
        except BrokerUnavailable as trouble:  # it mends itself, or the consumer is replaced
            _log.warning("%s: not read now: %s", partition, trouble)
            partition.retry_at = time.monotonic() + _PAUSE
        except SettingsError:  # somebody must mend it; meanwhile the others are read
            partition.retry_at = time.monotonic() + _RETRY
            raise

    async def _rescue(self, partition: Partition) -> bool:
        """Read what the library cannot parse for the sake of a header's name, and the rest of its batch.

        Only asked for one by one is it known that everything before it was delivered.

        Returns:
            False where it could not be had.
        """
        found = await rescue(self._consumer, partition)
        if not partition.live or not self._assignment.ready.is_set():
            return True  # not ours any more, or about to be: whoever reads it next meets it again
        if found is None:
            return False
        self._consumer.seek(partition.tp, found.behind)
        partition.rescued.extend(found.deliveries)
        partition.trouble, partition.singly = "", False
        for delivery in found.deliveries:
            if delivery.unreadable:
                _log.warning("%s: %s", delivery.message.position, delivery.unreadable)
        return True

    def _go_back(self, partition: Partition, error: RecordTooLargeError) -> None:
        """Undo what aiokafka does about a batch that the broker has cut off: it goes on one message behind its beginning.

        A broker with a protocol of its own time (KIP-74, 2016) sends such a batch whole.
        """
        offset = error.args[2]
        self._consumer.seek(partition.tp, offset)
        self._set_aside(
            partition, ValueError(f"the broker cuts off what is larger than a fetch ({error.args[3]} bytes)")
        )

    def _hand_out(self, partition: Partition, count: int) -> int:
        """Deliver up to `count` of what was rescued; return how many."""
        count = min(count, len(partition.rescued))
        for place in range(count):
            delivery = partition.rescued.popleft()
            offset = delivery.receipt[1]
            if not place:
                partition.stamp(offset, delivery.message.timestamp or 0.0)
            with contextlib.suppress(ValueError):  # in hand already
                partition.delivered(offset, size_of(delivery.message))
                self._read.append(delivery)
            partition.newest = offset
        return count

    def _set_aside(self, partition: Partition, error: Exception) -> None:
        """Get at what comes before bytes that cannot be parsed, then stop: going on would skip them unseen."""
        if not partition.singly:
            partition.singly = True
            return
        trouble = f"cannot be read beyond offset {partition.newest}: {type(error).__name__}: {error}"
        if partition.trouble != trouble:
            _log.error("%s %s; it stands still and is tried again every %.0f s", partition, trouble, _RETRY)
        partition.trouble = trouble
        partition.retry_at = time.monotonic() + _RETRY
