"""The events of an authentic body, and their names."""

from __future__ import annotations

import hashlib
import re

import msgspec

from consumer.webhooks.values import Item

__all__ = ["MOST_ITEMS", "elements", "named", "split"]

MOST_ITEMS = 1_000
"""Events of one batch; a larger one is kept as a single event, which no handler will decode, rather than lost."""

LONGEST_ID = 255


def named(value: bytes | None, pattern: str | None = None) -> str | None:
    """Return an event's name as text, `None` where it can be none: empty, too long, control characters, no UTF-8.

    Args:
        value: as it was found.
        pattern: what it must be besides.
    """
    if not value or len(value) > LONGEST_ID:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if not text.isprintable() or (pattern is not None and not re.fullmatch(pattern, text)):
        return None
    return text


def elements(body: bytes) -> list[bytes] | None:
    """Return the elements of a JSON array as they are written, `None` where the body is none or has too many."""
    try:
        found = _array(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return [bytes(each) for each in found] if len(found) <= MOST_ITEMS else None


def split(body: bytes, fields: tuple[str, ...]) -> tuple[tuple[Item, ...], str | None]:
    """Return the events of a signed batch, each with its own name.

    Args:
        body: authentic.
        fields: the members that name an element together: whole numbers, or text without a colon.

    Returns:
        The items and a remark. A body that is no batch is one item without a name; so is an element that lacks a
        member. What has no name has its digest as a guard.
    """
    found = elements(body)
    if found is None:
        return (_nameless(body),), f"the body is no JSON array of at most {MOST_ITEMS} events"
    items = tuple(_item(each, fields) for each in found)
    lacking = sum(item.event_id is None for item in items)
    return items, f"{lacking} of {len(items)} events have no usable {'+'.join(fields)}" if lacking else None


def _item(value: bytes, fields: tuple[str, ...]) -> Item:
    try:
        event = _object(value)
        texts = [str(_scalar(event[name])) for name in fields]
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return _nameless(value)
    # Joined by a colon, so none may hold one: two different events must never share a name.
    name = None if any(":" in text or not text for text in texts) else named(":".join(texts).encode())
    return Item(name, value) if name is not None else _nameless(value)


def _nameless(value: bytes) -> Item:
    return Item(None, value, hashlib.sha256(value).digest())


_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_scalar = msgspec.json.Decoder(str | int).decode
