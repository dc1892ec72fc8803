"""What arrives and what leaves: message, delivery, envelope, outgoing. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["Delivery", "Envelope", "Headers", "Message", "Outgoing", "header"]

Headers = tuple[tuple[str, bytes], ...]
"""Names and values in the order of arrival; a name may occur more than once."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Bytes and headers as they arrived, never changed afterwards.

    Attributes:
        topic: the topic that it was published to.
        value: the body; `None` is a tombstone (Kafka's null value).
        headers: names and values in order.
        record_key: the Kafka record key (any bytes, or `None`).
        ordering_key: messages of one ordering key are started in order; `None` where the sender gave none.
        source: the way in: `kafka`, `embedded`, `http`, `call` (`Running.call`), or the name of a webhook provider.
        position: `topic/partition/offset` on Kafka, else `None`.
        timestamp: when the broker took it, in seconds since 1970 by the broker's clock; `None` where there is no broker.
    """

    topic: str
    value: bytes | None
    headers: Headers = ()
    record_key: bytes | None = None
    ordering_key: str | None = None
    source: str = "embedded"
    position: str | None = None
    timestamp: float | None = None

    def header(self, name: str) -> bytes | None:
        """Return the last value of the header `name` (names are compared as they are), or `None`."""
        return header(self.headers, name)

    def encode(self) -> bytes:
        """Return the form in which stores keep a message: MessagePack of all fields."""
        return _encode(self)

    @staticmethod
    def decode(stored: bytes) -> Message:
        """Return the message that `encode` made `stored` of."""
        return _decode(stored)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One arrival of a message.

    Attributes:
        message: what arrived.
        receipt: what the source needs to acknowledge this very arrival; opaque to everybody else.
        taken_at: when the broker took it, by the broker's own clock (seconds since 1970); `None` where only its producer
            says when that was.
        unreadable: why no handler may run it, in one line: its source cannot tell what its sender meant. It is born dead.
    """

    message: Message
    receipt: Any = None
    taken_at: float | None = None
    unreadable: str | None = None


class Envelope(msgspec.Struct, gc=False):
    """A message, decoded and keyed for one handler.

    Attributes:
        message: what arrived.
        payload: the decoded value, of the type of the handler's first parameter.
        tenant: whose key space the key is in.
        key: 1-255 bytes that name the operation within app, tenant and handler.
        identity: 16 bytes, see `rules.keys.identity`.
        fingerprint: 16 bytes that tell two payloads of one key apart.
        stored: the bytes lie in the store, which delivers them again; no broker does.
        lane: for a handler with `ordered=`: the ordering key, at most 255 bytes; `None`: it has no order.
    """

    message: Message
    payload: Any
    tenant: str
    key: bytes
    identity: bytes
    fingerprint: bytes
    stored: bool = False
    lane: bytes | None = None


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message that leaves with its entry's commit.

    Attributes:
        id: 16 bytes, the same for every publication of this outgoing message (header `message-id`).
        topic: where it goes.
        value: the encoded body.
        headers: names and values.
        ordering_key: order is kept within one ordering key; `None`: no order.
        delay: seconds from the commit until it may be published.
    """

    id: bytes
    topic: str
    value: bytes
    headers: Headers = ()
    ordering_key: str | None = None
    delay: float = 0.0


def header(headers: Sequence[tuple[str, bytes]], name: str) -> bytes | None:
    """Return the last value of the header `name`, or `None`."""
    for known, value in reversed(headers):
        if known == name:
            return value
    return None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
