"""The one way from what a program publishes to an `Outgoing`: encoded at once, under limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from consumer.declare.names import check_topic
from consumer.message import Outgoing
from consumer.rules.decode import LONGEST_BODY

__all__ = ["HeaderItems", "outgoing_of"]

HeaderItems = Mapping[str, bytes | str] | Iterable[tuple[str, bytes | str]]
"""Headers as a handler writes them: text is encoded as UTF-8."""

_encode = msgspec.json.Encoder().encode

_OF_THE_SINK = frozenset({"message-id", "message-sequence", "ordering-key"})


def outgoing_of(
    own: bytes,
    topic: str,
    value: Any,
    *,
    ordering_key: str | None,
    headers: HeaderItems,
    delay: float | timedelta,
) -> Outgoing:
    """Encode and check a message that is to leave.

    Args:
        own: its id, 16 bytes.
        topic: where to; letters, digits, `.`, `_` and `-`.
        value: anything that msgspec encodes, as JSON; bytes pass as they are. At most 1 MiB.
        ordering_key: messages of one topic and ordering key stay in order; `None`: no order.
        headers: names and values.
        delay: seconds (or a timedelta) until it may be published.

    Raises:
        ValueError: an argument is out of range.
        TypeError: `value` is of a type that msgspec cannot encode.
    """
    check_topic(topic)
    body = _body(topic, value)
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"publish({topic!r}): delay must be 0 or more seconds, not {delay}")
    if ordering_key is not None and not ordering_key:
        raise ValueError(f"publish({topic!r}): ordering_key is empty; leave it out where there is no order")
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    encoded = tuple((name, _header(topic, name, text)) for name, text in pairs)
    return Outgoing(own, topic, body, encoded, ordering_key, seconds)


def _header(topic: str, name: str, value: object) -> bytes:
    if not name:
        raise ValueError(f"publish({topic!r}): a header without a name")
    if name in _OF_THE_SINK:
        raise ValueError(f"publish({topic!r}): the header {name!r} is written by the sink")
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise ValueError(  # noqa: TRY004 - one type for every wrong argument
            f"publish({topic!r}): the header {name!r} must be text or bytes, not {type(value).__name__}"
        )
    return value


def _body(topic: str, value: Any) -> bytes:
    if value is None:
        raise ValueError(
            f"publish({topic!r}): None is no value (a tombstone cannot be published; JSON's null is b'null')"
        )
    body = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else _encode(value)
    if len(body) > LONGEST_BODY:
        raise ValueError(f"publish({topic!r}): {len(body)} bytes, at most {LONGEST_BODY} are allowed")
    return body
