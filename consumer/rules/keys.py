"""Identity, fingerprint and the ids made of them. Frozen by golden vectors (`tests/unit/test_keys.py`)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from consumer.message import Message

__all__ = [
    "LONGEST_KEY",
    "BadKey",
    "born_dead_identity",
    "checked",
    "fingerprint_of_bytes",
    "fingerprint_of_fields",
    "idempotency_key",
    "identity",
    "outgoing_id",
]

LONGEST_KEY = 255
"""Bytes of the longest key (draft-ietf-httpapi-idempotency-key-header and Stripe: 255)."""


class BadKey(ValueError):
    """A key that cannot be one; the text is the reason that people see beside the dead letter."""


def checked(key: object) -> bytes:
    """Return the bytes of a key as a rule yielded it: never trimmed, never normalised.

    Args:
        key: text (encoded as UTF-8) or bytes, 1 to 255 bytes long.

    Raises:
        BadKey: it is missing, empty, too long, not encodable, or of another type.
    """
    if isinstance(key, str):
        try:
            key = key.encode()
        except UnicodeEncodeError:
            raise BadKey("key: not encodable as UTF-8 (a lone surrogate)") from None
    if key is None:
        raise BadKey("key: missing")
    if not isinstance(key, bytes):
        raise BadKey(f"key: must be text or bytes, not {type(key).__name__}")
    if not key:
        raise BadKey("key: empty")
    if len(key) > LONGEST_KEY:
        raise BadKey(f"key: {len(key)} bytes, at most {LONGEST_KEY} are allowed")
    return key


def identity(app: str, tenant: str, handler: str, key: bytes) -> bytes:
    """Return the 16 bytes that name one operation: SHA-256 over the four length-prefixed parts, its first half."""
    return hashlib.sha256(_key_space(app, tenant, handler) + _prefix(key)).digest()[:16]


def born_dead_identity(app: str, tenant: str | None, handler: str, reason: str, message: Message) -> bytes:
    """Return the identity of what cannot be keyed, or conflicts: of a domain of its own (more parts than `identity`).

    A redelivery does not make a second dead letter: the same bytes have the same identity. Where a broker gives positions,
    what cannot be keyed is one dead letter per position (docs/decisions/0012-one-dead-letter-per-position.md).

    Args:
        app, handler: as in `identity`.
        tenant: `None` where it cannot be known: `public`.
        reason: the short class of the reason (`decode`, `key`, `conflict`), not its text. A conflict has a key: the same
            conflict at another position is the same one.
        message: the null flag, the record key, the headers and the value count. The context of a trace does not: it says
            which request has brought the message, and is another one when the same message is sent again.
    """
    headers = b"".join(
        _prefixed(name.encode("utf-8", "surrogatepass"), value)
        for name, value in message.headers
        if name not in _OF_TRACES
    )
    body = _prefixed(
        b"\x00" if message.value is None else b"\x01",
        b"\x00" if message.record_key is None else b"\x01" + message.record_key,
        headers,
        message.value or b"",
    )
    digest = hashlib.sha256(body).digest()
    parts = (app.encode(), (tenant or "public").encode(), handler.encode(), reason.encode(), digest)
    if message.position is None or reason == "conflict":
        return _digest(b"born-dead", *parts)
    return _digest(b"born-dead", *parts, message.position.encode())


def fingerprint_of_bytes(value: bytes | None) -> bytes:
    """Return 16 bytes over the raw value: the default, where a handler has one way in."""
    return hashlib.sha256(_BYTES + _prefix(b"" if value is None else value)).digest()[:16]


def fingerprint_of_fields(payload: Any, fields: Sequence[str]) -> bytes:
    """Return 16 bytes over the named fields of a decoded payload (`same=`), however its JSON was written.

    Args:
        payload: an object with attributes, or a mapping.
        fields: the names, in the order of declaration; the names count too.
    """
    if isinstance(payload, dict):
        values = [payload.get(name) for name in fields]
    else:
        values = [getattr(payload, name) for name in fields]
    return _digest(b"fields", *(name.encode() for name in fields), _canonical(values))


def idempotency_key(entry: bytes) -> str:
    """Return the 26 characters that a handler passes downstream: the same for every attempt of an entry."""
    return base64.b32encode(_digest(b"idempotency-key", entry)).decode().rstrip("=").lower()


def outgoing_id(entry: bytes, ordinal: int) -> bytes:
    """Return the id of an entry's outgoing message number `ordinal` (from 0): the same whenever it is published."""
    return _digest(b"outgoing", entry, ordinal.to_bytes(4, "big"))


_canonical = msgspec.json.Encoder(order="deterministic").encode


@lru_cache(maxsize=4096)
def _key_space(app: str, tenant: str, handler: str) -> bytes:
    """Return what the identities of all keys of one handler and tenant begin with."""
    return _prefixed(app.encode(), tenant.encode(), handler.encode())


def _prefix(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def _prefixed(*parts: bytes) -> bytes:
    return b"".join(map(_prefix, parts))


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(_prefixed(*parts)).digest()[:16]


_BYTES = _prefix(b"bytes")
_OF_TRACES = frozenset({"traceparent", "tracestate"})
