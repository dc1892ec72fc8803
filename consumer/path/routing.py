"""Where an outgoing message goes: to entries of this app in the same commit, or to the outbox and a sink."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from consumer.declare.handlers import Handler
from consumer.entry import Landing
from consumer.message import Message, Outgoing
from consumer.path.keying import Unkeyed, born_dead, envelope_of, landing_of

__all__ = ["Router"]

_log = logging.getLogger("consumer.routing")


class Router:
    """Routes by configuration, never by guessing: a topic is embedded, or it belongs to a broker.

    Args:
        app: the app's name.
        handlers: who subscribes to which topics.
        embedded: topics that live in this store's inbox; `None`: all of them.

    Attributes:
        by_topic: the handlers of each topic.
        landed: how many entries its messages have become so far: whoever sees it grow looks for due entries.
        unrouted: messages of embedded topics that nobody subscribes to, per topic.
    """

    def __init__(self, app: str, handlers: Iterable[Handler], embedded: frozenset[str] | None = None) -> None:
        self.app = app
        self.embedded = embedded
        self.unrouted: Counter[str] = Counter()
        self.landed = 0
        by_topic: dict[str, list[Handler]] = {}
        for handler in handlers:
            for topic in handler.topics:
                by_topic.setdefault(topic, []).append(handler)
        self.by_topic: Mapping[str, Sequence[Handler]] = by_topic

    def is_embedded(self, topic: str) -> bool:
        """Whether `topic` lives in this store's inbox."""
        return self.embedded is None or topic in self.embedded

    def route(self, messages: Sequence[Outgoing]) -> tuple[tuple[Outgoing, ...], tuple[Landing, ...]]:
        """Split outgoing messages into those for the outbox and the entries that others become in the same commit.

        An embedded topic without a subscriber counts as sent: `unrouted` is counted, and warned of once a topic.
        """
        if not messages:
            return (), ()
        leaving: list[Outgoing] = []
        landings: list[Landing] = []
        for outgoing in messages:
            if self.is_embedded(outgoing.topic):
                landings += self.landings(outgoing)
            else:
                leaving.append(outgoing)
        return tuple(leaving), tuple(landings)

    def landings(self, outgoing: Outgoing) -> list[Landing]:
        """Return the entries that an outgoing message of an embedded topic becomes: one per subscribed handler."""
        handlers = self.by_topic.get(outgoing.topic, ())
        if not handlers:
            self.unrouted[outgoing.topic] += 1
            if self.unrouted[outgoing.topic] == 1:
                _log.warning(
                    "nobody subscribes to the embedded topic %r: its messages go nowhere", outgoing.topic
                )
            return []
        headers = (*outgoing.headers, ("message-id", outgoing.id.hex().encode()))
        message = Message(outgoing.topic, outgoing.value, headers, ordering_key=outgoing.ordering_key)
        landings: list[Landing] = []
        self.landed += len(handlers)
        for handler in handlers:
            envelope = envelope_of(self.app, handler, message, stored=True)
            if isinstance(envelope, Unkeyed):
                landings.append(born_dead(self.app, handler, message, envelope))
            else:
                landings.append(landing_of(self.app, handler, envelope, outgoing.delay))
        return landings
