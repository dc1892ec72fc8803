"""What one asks about topics before a source or a sink is started. Nothing is ever created here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidTopicError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from consumer.brokers.kafka.access import OPEN, Access
from consumer.brokers.kafka.connect import Admin, admin
from consumer.errors import SettingsError

__all__ = [
    "TopicFacts",
    "check_topics",
    "missing_text",
    "missing_topics",
    "refused_topics",
    "topic_facts",
    "topic_retention",
]

_PERMANENT = {
    UnknownTopicOrPartitionError.errno: "topic does not exist",
    InvalidTopicError.errno: "not a valid topic name",
    TopicAuthorizationFailedError.errno: "no permission for this topic",
}
_PATIENCE = 5.0
_resource: Any = ConfigResource


class TopicFacts(msgspec.Struct, frozen=True):
    """How a topic is configured.

    Attributes:
        retention: seconds that the broker keeps a message at least, by the message's timestamp; `None`: without limit
            (also for compacted topics, which forget by key, not by age). A message can stay until its segment is
            closed, which is later.
        append_time: timestamps are the broker's (`LogAppendTime`), not the producer's.
        longest: bytes of the longest batch that the topic takes; `None` where it is not known.
    """

    retention: float | None
    append_time: bool
    longest: int | None


async def missing_topics(bootstrap: str, topics: Sequence[str], access: Access = OPEN) -> list[str]:
    """Return those of `topics` that do not exist (or cannot: their names are not valid), in order.

    Args:
        bootstrap: `host:port[,host:port]`.
        topics: names.
        access: TLS and SASL.

    Raises:
        BrokerUnavailable: nobody answers within 5 s.
        SettingsError: there is no permission to look.
    """
    refused = await refused_topics(bootstrap, topics, access)
    denied = _PERMANENT[TopicAuthorizationFailedError.errno]
    if forbidden := [topic for topic, reason in refused.items() if reason == denied]:
        raise SettingsError(f"Kafka at {bootstrap}: {denied}: {', '.join(forbidden)}")
    return [topic for topic in topics if topic in refused]


async def check_topics(bootstrap: str, topics: Sequence[str], access: Access = OPEN) -> None:
    """Ask whether `topics` can be published to.

    Raises:
        BrokerUnavailable: nobody answers within 5 s.
        SettingsError: one does not exist (the text says how to make it), or there is no permission to look.
    """
    if missing := await missing_topics(bootstrap, topics, access):
        raise SettingsError(missing_text(bootstrap, missing))


async def refused_topics(bootstrap: str, topics: Sequence[str], access: Access = OPEN) -> dict[str, str]:
    """Return why each of `topics` that cannot be used cannot; those that can are left out.

    Raises:
        BrokerUnavailable: nobody answers within 5 s.
    """
    if not topics:
        return {}
    async with admin(bootstrap, timeout=_PATIENCE, access=access) as client:
        described = await client.describe_topics(sorted(set(topics)))
    codes = {entry["topic"]: entry["error_code"] for entry in described}
    return {topic: _PERMANENT[codes[topic]] for topic in topics if codes.get(topic) in _PERMANENT}


def missing_text(bootstrap: str, topics: Sequence[str]) -> str:
    """Return the sentence for people whose topics do not exist, with the way to make them."""
    many = len(topics) > 1
    server = bootstrap.split(",", maxsplit=1)[0]
    return (
        f"Kafka at {bootstrap}: topic{'s' if many else ''} {', '.join(topics)} {'do' if many else 'does'} not exist. "
        f"Create {'each' if many else 'it'} with: kafka-topics.sh --bootstrap-server {server} --create "
        f"--topic {topics[0]} --partitions 6 (--replication-factor 3 where there are three brokers)"
    )


async def topic_facts(bootstrap: str, topics: Sequence[str], access: Access = OPEN) -> dict[str, TopicFacts]:
    """Return how each of `topics` is configured.

    Raises:
        BrokerUnavailable: nobody answers within 5 s.
        SettingsError: one does not exist, or there is no permission to look.
    """
    if not topics:
        return {}
    async with admin(bootstrap, timeout=_PATIENCE, access=access) as client:
        configs = await asyncio.gather(*(_config(client, topic) for topic in sorted(set(topics))))
    found = {topic: config for topic, config in configs if config is not None}
    if missing := [topic for topic in topics if topic not in found]:
        raise SettingsError(missing_text(bootstrap, missing))
    return {topic: _facts(found[topic]) for topic in topics}


async def topic_retention(
    bootstrap: str, topics: Sequence[str], access: Access = OPEN
) -> dict[str, float | None]:
    """Return how many seconds each of `topics` keeps its messages; `None`: without limit.

    Raises:
        BrokerUnavailable: nobody answers within 5 s.
        SettingsError: one does not exist, or there is no permission to look.
    """
    facts = await topic_facts(bootstrap, topics, access)
    return {topic: facts[topic].retention for topic in topics}


async def _config(client: Admin, topic: str) -> tuple[str, Mapping[str, str] | None]:
    [response] = await client.describe_configs([_resource(ConfigResourceType.TOPIC, topic)])
    [resource] = response.resources
    code, entries = resource[0], resource[4]
    if code == TopicAuthorizationFailedError.errno:
        raise TopicAuthorizationFailedError(topic)
    if code:
        return topic, None
    return topic, {entry[0]: entry[1] for entry in entries}


def _facts(config: Mapping[str, str]) -> TopicFacts:
    kept = int(config.get("retention.ms", -1))
    deletes = "delete" in config.get("cleanup.policy", "delete")
    longest = config.get("max.message.bytes")
    return TopicFacts(
        retention=kept / 1000 if deletes and kept >= 0 else None,
        append_time=config.get("message.timestamp.type") == "LogAppendTime",
        longest=int(longest) if longest else None,
    )
