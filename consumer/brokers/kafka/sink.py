"""The sink: messages to Kafka, acknowledged by every in-sync replica, in order per ordering key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from consumer.brokers.kafka.access import OPEN, Access
from consumer.brokers.kafka.answers import Answers
from consumer.brokers.kafka.connect import Producer, close_producer, new_producer, translated
from consumer.brokers.kafka.record import ORDERING_KEY
from consumer.brokers.kafka.topics import TopicFacts, refused_topics, topic_facts
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Outgoing
from consumer.ports.transport import Published

__all__ = ["MESSAGE_ID", "MESSAGE_SEQUENCE", "KafkaSink"]

_log = logging.getLogger(__name__)

MESSAGE_ID = "message-id"
MESSAGE_SEQUENCE = "message-sequence"
_OURS = frozenset({MESSAGE_ID, MESSAGE_SEQUENCE, ORDERING_KEY})

_FLUSH = 5.0  # seconds to flush when stopped
_LOOK_AGAIN = 0.2  # seconds between two looks for a topic that was perhaps made a moment ago
_BATCH_OVERHEAD = 61 + 5  # bytes that a batch of one record has beside the record, at least

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSED = (*_TOO_LARGE, InvalidTopicError, TopicAuthorizationFailedError)
_OUT_OF_STEP = (OutOfOrderSequenceNumber, UnknownProducerId)


_UNKNOWN = TopicFacts(retention=None, append_time=False, longest=None)


class KafkaSink:
    """`ports.transport.Sink` on aiokafka's idempotent producer, which is started at the first call.

    The record key is the ordering key, so that its messages share a partition. One call at a time; a call has a deadline
    of its own, because with idempotence aiokafka repeats a batch for ever: after it nobody knows what arrived, the
    producer is thrown away, and the caller publishes all again (consumers recognise the `message-id`).

    Args:
        bootstrap: `host:port[,host:port]`.
        timeout: seconds for one call.
        topic_wait: seconds to wait for a topic that does not exist before its messages are refused.
        access: TLS and SASL.
    """

    def __init__(
        self, bootstrap: str, *, timeout: float = 30.0, topic_wait: float = 2.0, access: Access = OPEN
    ) -> None:
        self._bootstrap = bootstrap
        self._access = access
        self._timeout = timeout
        self._topic_wait = topic_wait
        self._producer: Producer | None = None
        self._topics: dict[str, TopicFacts] = {}
        self._one_at_a_time = asyncio.Lock()

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        """Publish in the given order per ordering key; see the port.

        Refused for good: a message that is larger than its topic allows, a topic that does not exist, has no valid name
        or permits no writing, a header or ordering key that is not UTF-8.

        Raises:
            BrokerUnavailable: it is not known which of them arrived; publish all again.
            SettingsError: the broker refuses who we are.
        """
        async with self._one_at_a_time:
            answers = Answers(messages)
            try:
                with translated(self._bootstrap):
                    async with asyncio.timeout(self._timeout):
                        await self._publish(answers)
            except (BrokerUnavailable, SettingsError, asyncio.CancelledError):
                await self._throw_away()
                raise
            return answers.all()

    async def stop(self) -> None:
        """Close the connections, in a bounded time. The next `publish` opens new ones."""
        async with self._one_at_a_time:
            producer, self._producer = self._producer, None
            if producer is not None:
                await close_producer(producer, _FLUSH)

    # --- one call -----------------------------------------------------------------------------------------------------

    async def _publish(self, answers: Answers) -> None:
        await self._look_at_topics(answers)
        if not answers.waiting():
            return
        if await self._together(answers):
            return
        # The broker refused a batch, or lost track of this producer's numbers. The numbers of a refused batch are spent,
        # so whatever follows in its partition is refused too, until there is a new producer. The rest goes one by one:
        # only a message that is refused alone is refused for good.
        await self._throw_away()
        for place in answers.waiting():
            if not answers.held_back(place):
                await self._alone(answers, place)

    async def _together(self, answers: Answers) -> bool:
        """Send all that wait and await them; return whether that gave everyone an answer."""
        producer = await self._started()
        sent: list[tuple[int, asyncio.Future[Any]]] = []
        clean = True
        try:
            for place in answers.waiting():
                if not answers.held_back(place):
                    future = await self._send(producer, answers, place)
                    if future is not None:
                        sent.append((place, future))
            if sent:
                await asyncio.wait([future for _, future in sent])
            for place, future in sent:
                error = future.exception()
                if error is None:
                    answers.published(place)
                elif isinstance(error, (*_REFUSED, *_OUT_OF_STEP)):
                    clean = False
                else:
                    raise error
        finally:
            for _, future in sent:
                if not future.cancel() and not future.cancelled():
                    future.exception()  # seen
        return clean

    async def _alone(self, answers: Answers, place: int) -> None:
        producer = await self._started()
        future = await self._send(producer, answers, place)
        if future is None:
            return
        try:
            await future
        except _REFUSED as error:
            answers.refuse(place, _reason(error))
            await self._throw_away()
        else:
            answers.published(place)

    async def _send(self, producer: Producer, answers: Answers, place: int) -> asyncio.Future[Any] | None:
        """Hand one message to the producer; `None`: it is refused before anything is sent."""
        sequence, outgoing = answers.messages[place]
        try:
            key = None if outgoing.ordering_key is None else outgoing.ordering_key.encode()
            headers = _headers(sequence, outgoing)
            if reason := self._too_large(outgoing, key):
                answers.refuse(place, reason)
                return None
            sent: asyncio.Future[Any] = await producer.send(
                outgoing.topic, outgoing.value, key=key, headers=headers
            )
        except (TypeError, ValueError) as error:
            answers.refuse(place, f"cannot be encoded: {error}")
            return None
        except _REFUSED as error:
            answers.refuse(place, _reason(error))
            return None
        return sent

    def _too_large(self, outgoing: Outgoing, key: bytes | None) -> str | None:
        """Refuse what cannot fit: asking the broker costs the producer, and others of the batch their turn."""
        facts = self._topics.get(outgoing.topic)
        if facts is None or facts.longest is None:
            return None
        size = len(outgoing.value) + len(key or b"") + _BATCH_OVERHEAD
        if size <= facts.longest:
            return None
        return f"message too large: {size} bytes, the topic takes {facts.longest}"

    # --- topics and the producer --------------------------------------------------------------------------------------

    async def _look_at_topics(self, answers: Answers) -> None:
        """Refuse the messages of topics that do not exist; a topic is looked at once."""
        new = {outgoing.topic for _, outgoing in answers.messages} - self._topics.keys()
        if not new:
            return
        refused = await self._refused(sorted(new))
        try:
            self._topics |= await topic_facts(self._bootstrap, sorted(new - refused.keys()), self._access)
        except (
            SettingsError
        ):  # no permission to see how they are configured: then the broker says what is too large
            self._topics |= dict.fromkeys(new - refused.keys(), _UNKNOWN)
        if refused:
            for place, (_, outgoing) in enumerate(answers.messages):
                if reason := refused.get(outgoing.topic):
                    answers.refuse(place, reason)

    async def _refused(self, topics: Sequence[str]) -> dict[str, str]:
        deadline = asyncio.get_running_loop().time() + self._topic_wait
        while True:
            refused = await refused_topics(self._bootstrap, topics, self._access)
            if not refused or asyncio.get_running_loop().time() >= deadline:
                return refused
            await asyncio.sleep(_LOOK_AGAIN)

    async def _started(self) -> Producer:
        if self._producer is None:
            producer = new_producer(self._bootstrap, timeout=self._timeout, access=self._access)
            self._producer = producer
            await producer.start()
        return self._producer

    async def _throw_away(self) -> None:
        """Forget the producer and what it has under way, and what is known of topics: they may have changed."""
        producer, self._producer = self._producer, None
        self._topics.clear()
        if producer is not None:
            await close_producer(producer, 0)


def _headers(sequence: int | None, outgoing: Outgoing) -> list[tuple[str, bytes]]:
    headers = [(name, value) for name, value in outgoing.headers if name not in _OURS]
    headers.append((MESSAGE_ID, outgoing.id.hex().encode()))
    if outgoing.ordering_key is not None:
        headers.append((ORDERING_KEY, outgoing.ordering_key.encode()))
    if sequence is not None:
        headers.append((MESSAGE_SEQUENCE, str(sequence).encode()))
    return headers


def _reason(error: KafkaError) -> str:
    if isinstance(error, _TOO_LARGE):
        return f"message too large: {error}"
    if isinstance(error, TopicAuthorizationFailedError):
        return "no permission for this topic"
    return f"refused by Kafka: {error}"
