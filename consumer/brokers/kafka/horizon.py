"""Retention: how long a topic keeps its messages beside how long handlers remember their keys."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from consumer.brokers.kafka.access import Access
from consumer.brokers.kafka.topics import TopicFacts, topic_facts
from consumer.errors import SettingsError

__all__ = ["Memory", "check_horizon"]

_log = logging.getLogger(__name__)

Memory = Mapping[str, tuple[str, float]]
"""By topic: the handler that forgets first, and after how many seconds."""


async def check_horizon(bootstrap: str, topics: Sequence[str], memory: Memory, access: Access) -> None:
    """Refuse a handler that forgets its keys while its topic still has their messages; warn where nobody can know.

    Args:
        bootstrap: `host:port[,host:port]`.
        topics: they exist.
        memory: how long their handlers remember.
        access: TLS and SASL.

    Raises:
        SettingsError: a topic keeps its messages for longer than a handler remembers; both figures and the mend are said.
        BrokerUnavailable: nobody answers.
    """
    known = [topic for topic in topics if topic in memory]
    try:
        facts = await topic_facts(bootstrap, known, access)
    except SettingsError as fault:
        _log.warning("how long topics keep their messages is not known: %s", fault)
        return
    for topic in known:
        if text := complaint(topic, facts[topic], *memory[topic]):
            raise SettingsError(text)


def complaint(topic: str, facts: TopicFacts, handler: str, remembers: float) -> str | None:
    """Return why this handler cannot read this topic; `None`: it can. A topic without a limit is worth a warning."""
    if facts.retention is None:
        _log.warning(
            "topic %s keeps its messages without limit (compacted, or retention.ms=-1), %s forgets its keys after %s:"
            " do not rewind further than that",
            topic, handler, _words(remembers),
        )  # fmt: skip
        return None
    if facts.retention <= remembers:
        return None
    return (
        f"at start: topic {topic} keeps its messages for {_words(facts.retention)}, {handler} forgets its keys after"
        f" {_words(remembers)}, and an older message would run again; declare"
        f" retention=timedelta(seconds={facts.retention:.0f}) or more, or lower the topic's retention.ms to"
        f" {remembers * 1000:.0f}"
    )


def _words(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} seconds"
