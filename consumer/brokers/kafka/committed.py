"""What a group has committed, asked once more before anybody believes that it has committed nothing.

A coordinator that is loading its log, or is none any more, answers with one error for the whole question and names no
partition. aiokafka (0.14) looks at the errors of partitions only, so to it such an answer says that nothing was ever
committed; whoever then begins at the first position reads a whole topic again (`earliest`) or leaves out what waits
(`latest`).
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.connect import Consumer

__all__ = ["committed_offset"]

_request: Any = OffsetFetchRequest


async def committed_offset(consumer: Consumer, tp: TopicPartition) -> int | None:
    """Return the offset that the group has committed for `tp`; `None`: its coordinator says that there is none.

    Args:
        consumer: a member of the group.
        tp: the partition.

    Raises:
        KafkaError: the answer is an error, or says nothing of this partition.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - the library's public question has the fault described above
    await coordinator.ensure_coordinator_known()
    answer = await coordinator._send_req(_request(coordinator.group_id, [(tp.topic, [tp.partition])]))  # noqa: SLF001
    _check(getattr(answer, "error_code", 0), coordinator.group_id)  # the oldest version has none
    for topic, partitions in answer.topics:
        for number, offset, _, fault in partitions:
            if (topic, number) == tp:
                _check(fault, tp)
                return offset if offset >= 0 else None
    raise KafkaError(f"no answer about the committed offset of {tp.topic}/{tp.partition}")


def _check(code: int, about: object) -> None:
    if code:
        raise for_code(code)(about)
