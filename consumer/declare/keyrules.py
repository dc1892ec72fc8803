"""Where a handler's key comes from: a field, a header, the record key, a CloudEvent's id, the position, or a function.

A rule is frozen: two deployments of one handler must make the same key of the same message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote
from uuid import UUID

import msgspec

from consumer.message import Message
from consumer.rules.keys import BadKey

__all__ = [
    "CloudEventRule",
    "FieldRule",
    "FunctionRule",
    "HeaderRule",
    "Key",
    "KeyLike",
    "KeyRule",
    "PositionRule",
    "RecordRule",
    "rule_of",
]


class KeyRule(Protocol):
    """How a key (or a tenant) is found."""

    def find(self, payload: Any, message: Message) -> str | bytes | None:
        """Return what was found, `None` where it is missing; `consumer.rules.keys.checked` decides whether it can be a key.

        Raises:
            BadKey: what was found is no key; the text says why.
        """
        ...


KeyLike = KeyRule | Callable[[Any], str | bytes]
"""What `key=` and `tenant=` take: a rule of `Key`, or a function of the payload."""


class FieldRule(msgspec.Struct, frozen=True):
    """`Key.field`: the value at `path` in the payload."""

    path: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Key.field({', '.join(repr(name) for name in self.path)})"

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Walk the path; a missing step, or `None` at one, is a missing key."""
        value = payload
        for name in self.path:
            value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
            if value is None:
                return None
        return _as_key(value)


class HeaderRule(msgspec.Struct, frozen=True):
    """`Key.header`: the value of a header."""

    name: str

    def __repr__(self) -> str:
        return f"Key.header({self.name!r})"

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Return the header's bytes; one that occurs twice with different values names nothing."""
        found = {value for name, value in message.headers if name == self.name}
        if len(found) > 1:
            raise BadKey(f"key: the header {self.name!r} occurs {len(found)} times with different values")
        return found.pop() if found else None


class RecordRule(msgspec.Struct, frozen=True):
    """`Key.record`: the Kafka record key."""

    def __repr__(self) -> str:
        return "Key.record()"

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Return the record key; where no Kafka is between, the ordering key, which Kafka would carry as the record key."""
        if message.record_key is None and message.source != "kafka" and message.ordering_key is not None:
            return message.ordering_key
        return message.record_key


class CloudEventRule(msgspec.Struct, frozen=True):
    """`Key.cloudevent`: `source` and `id`, which together are unique by the CloudEvents specification (1.0, §3.1)."""

    def __repr__(self) -> str:
        return "Key.cloudevent()"

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Return `source id`: a URI reference holds no space, so no other pair has the same text."""
        source, ident = _attributes(message)
        if not source or not ident:
            raise BadKey(
                "key: no CloudEvent (neither ce_source and ce_id headers nor a structured body with source and id)"
            )
        if any(letter.isspace() for letter in source):
            raise BadKey("key: the CloudEvent's source is no URI reference (it holds a space)")
        return f"{source} {ident}"


class PositionRule(msgspec.Struct, frozen=True):
    """`Key.position`: topic, partition and offset.

    It tells arrivals apart, not operations: a message that its sender publishes twice has two positions.
    """

    def __repr__(self) -> str:
        return "Key.position()"

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Return the position; only Kafka gives one."""
        if message.position is None:
            raise BadKey(
                f"key: Key.position() needs a Kafka position, which a message from {message.source} has not"
            )
        return message.position


class FunctionRule(msgspec.Struct, frozen=True):
    """A user's function of the payload."""

    function: Callable[[Any], Any]

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function)).rpartition("<locals>.")[2]

    def find(self, payload: Any, message: Message) -> str | bytes | None:  # noqa: ARG002 - the rules' one signature
        """Call the function. What it raises makes a dead letter, never a stopped worker; its text may hold values."""
        try:
            value = self.function(payload)
        except Exception as fault:
            raise BadKey(f"key: {self!r} raised {type(fault).__name__}") from fault
        return None if value is None else _as_key(value)


class Key:
    """The key rules: `key=Key.field("payment_id")`. A function `payload -> str | bytes` is one too."""

    @staticmethod
    def field(*path: str) -> KeyRule:
        """Take a field of the payload, of type str, bytes, int or UUID; more names lead into nested ones.

        Args:
            *path: attribute names (keys, where the payload is a dict), as in the code, not as renamed in JSON.
        """
        return FieldRule(path)

    @staticmethod
    def header(name: str) -> KeyRule:
        """Take a header's value.

        Args:
            name: compared as it is.
        """
        return HeaderRule(name)

    @staticmethod
    def record() -> KeyRule:
        """Take the Kafka record key (for embedded topics: the ordering key)."""
        return RecordRule()

    @staticmethod
    def cloudevent() -> KeyRule:
        """Take `source` and `id` of a CloudEvent, from headers (`ce_…`, `ce-…`) or from a structured JSON body."""
        return CloudEventRule()

    @staticmethod
    def position() -> KeyRule:
        """Take topic, partition and offset, on Kafka only. A sender that publishes twice is *not* recognised."""
        return PositionRule()


def rule_of(given: KeyLike) -> KeyRule:
    """Return the rule that `key=` or `tenant=` means."""
    return given if hasattr(given, "find") else FunctionRule(given)


class _Structured(msgspec.Struct):
    source: str
    id: str
    specversion: str


_structured = msgspec.json.Decoder(_Structured)


def _attributes(message: Message) -> tuple[str | None, str | None]:
    """Return source and id: of the headers (Kafka's binding writes `ce_`, HTTP's `ce-`, percent-encoded), else of the body."""
    source, ident = message.header("ce_source"), message.header("ce_id")
    if source is not None and ident is not None:
        return _text(source), _text(ident)
    source, ident = message.header("ce-source"), message.header("ce-id")
    if source is not None and ident is not None:
        return unquote(_text(source)), unquote(_text(ident))
    try:
        event = _structured.decode(message.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None
    return event.source, event.id


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadKey("key: a ce_ header is not UTF-8") from None


def _as_key(value: object) -> str | bytes:
    """Return text or bytes of a field's value. A float has many spellings of one number, a bool is no name."""
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise BadKey(f"key: must be text, bytes, an integer or a UUID, not {type(value).__name__}")
