"""Messages from the command line to where their topic lives: a broker, or entries in the store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import msgspec

from consumer.app import App
from consumer.cli.exits import patiently
from consumer.cli.options import outlasting
from consumer.declare.complaints import did_you_mean
from consumer.errors import ConsumerError
from consumer.message import Headers, Outgoing
from consumer.settings import Settings, redacted
from consumer.worker.connect import Connections, connect

__all__ = ["BATCH", "Publisher", "batches", "field_text", "lines_of", "publisher"]

BATCH = 500


class Publisher:
    """Publishes batches; durable when `publish` returns.

    Args:
        connections: the store is open where the topic is embedded.
        url: of where the messages go, for texts.
    """

    def __init__(self, connections: Connections, url: str) -> None:
        self._connections = connections
        self._url = url

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages of one topic.

        Raises:
            StoreUnavailable, BrokerUnavailable: which of them arrived is not known; publishing them again is safe.
            ConsumerError: the broker refuses one for good.
        """
        router, sink = self._connections.router, self._connections.sink
        if sink is None or router.is_embedded(messages[0].topic):
            landings = [landing for message in messages for landing in router.landings(message)]
            if landings:
                await patiently(self._url, self._connections.store.arrivals.land(landings))
            return
        answers = await patiently(self._url, sink.publish([(None, message) for message in messages]))
        for answer in answers:
            if answer.refused is not None:
                raise ConsumerError(
                    f"topic {messages[0].topic!r}: the broker refuses the message: {answer.refused}"
                )


@asynccontextmanager
async def publisher(
    app: App, settings: Settings, topic: str, *, unrouted: bool = False
) -> AsyncIterator[Publisher]:
    """Connect to where `topic` lives; a broker's topic needs no store, and nothing needs the application's resources.

    Args:
        app: whose handlers subscribe.
        settings: where topics live.
        topic: of every message.
        unrouted: also where no handler of the app subscribes to an embedded topic, so that its messages go nowhere.

    Raises:
        SettingsError: a setting is wrong, or the tables are not there.
        ConsumerError: nobody subscribes to the embedded topic: a handler's publish may be early, a person's is a typo.
        StoreUnavailable: the store does not answer.
    """
    connections = connect(app.name, settings, app.handlers.declared)
    try:
        embedded = connections.router.is_embedded(topic)
        url = redacted(settings.store if embedded else settings.broker)
        if embedded:
            outlasting(settings.store, "publish to")
            known = connections.router.by_topic
            if topic not in known and not unrouted:
                raise ConsumerError(
                    f"topic {topic!r}: no handler of {app.name} subscribes to it, and it lives in the store, so its messages"
                    f" would go nowhere{did_you_mean(topic, known)} (--unrouted publishes all the same)"
                )
            await patiently(url, connections.store.open())
        yield Publisher(connections, url)
    finally:
        await connections.close()


def batches(
    values: Iterable[bytes], topic: str, headers: Headers, key_field: str | None
) -> Iterator[list[Outgoing]]:
    """Yield messages in batches, each with an id of its own."""
    batch: list[Outgoing] = []
    for value in values:
        key = None if key_field is None else field_text(value, key_field)
        batch.append(Outgoing(uuid.uuid4().bytes, topic, value, headers, key))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's lines byte for byte, without their ends; blank ones are left out."""
    for line in file:
        if line.strip():
            yield line.removesuffix(b"\n").removesuffix(b"\r")


def field_text(value: bytes, field: str) -> str | None:
    """Return a top-level field of a JSON object as a key: text or a whole number; `None` where there is none."""
    try:
        found: Any = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    key = found.get(field) if isinstance(found, dict) else None
    if isinstance(key, str):
        return key or None
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else None
