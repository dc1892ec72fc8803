"""Kafka by aiokafka: a source, a sink, and what one asks about topics before either is started."""

from __future__ import annotations

from consumer.brokers.kafka.access import Access
from consumer.brokers.kafka.sink import KafkaSink
from consumer.brokers.kafka.source import KafkaSource
from consumer.brokers.kafka.topics import TopicFacts, missing_topics, topic_facts, topic_retention

__all__ = [
    "Access",
    "KafkaSink",
    "KafkaSource",
    "TopicFacts",
    "missing_topics",
    "topic_facts",
    "topic_retention",
]
