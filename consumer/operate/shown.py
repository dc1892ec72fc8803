"""Entries and messages as plain values that any JSON writer takes."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from consumer.entry import Entry
from consumer.message import Message
from consumer.ports.outbox import Pending

__all__ = ["detail_of", "key_text", "outgoing_detail", "outgoing_row", "row_of", "time_text"]


def key_text(key: bytes) -> str:
    r"""Return a key for people and JSON: UTF-8, and `\xff` for each byte that is none. `key_hex` is exact."""
    return key.decode("utf-8", "backslashreplace")


def time_text(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row_of(entry: Entry) -> dict[str, Any]:
    """Return what a list shows of an entry."""
    return {
        "id": entry.identity.hex(),
        "app": entry.app,
        "handler": entry.handler,
        "tenant": entry.tenant,
        "key": key_text(entry.key),
        "key_hex": entry.key.hex(),
        "state": entry.state.word,
        "attempts": entry.attempts,
        "reason": entry.reason,
        "created_at": time_text(entry.created_at),
        "due_at": time_text(entry.due_at),
        "token": entry.token,
        "keyed": entry.keyed,
        "has_bytes": entry.message is not None,
        "lane": None if entry.lane is None else key_text(entry.lane),
        "behind": None if entry.behind is None else entry.behind.hex(),
    }


def detail_of(entry: Entry) -> dict[str, Any]:
    """Return everything that is known of an entry: its row, its result, its message and its story."""
    return row_of(entry) | {
        "worker": entry.worker,
        "result": _result(entry.result),
        "message": None if entry.message is None else _message(Message.decode(entry.message)),
        "story": [
            {
                "at": time_text(line.at),
                "event": line.event,
                "token": line.token,
                "attempt": line.attempt,
                "reason": line.reason,
            }
            for line in entry.story
        ],
    }


def outgoing_row(pending: Pending) -> dict[str, Any]:
    """Return what a list shows of a message in the outbox; `id` is its header `message-id`."""
    outgoing = pending.outgoing
    return {
        "seq": pending.seq,
        "app": pending.app,
        "id": outgoing.id.hex(),
        "topic": outgoing.topic,
        "ordering_key": outgoing.ordering_key,
        "parked": pending.parked,
        "created_at": time_text(pending.created_at),
        "bytes": len(outgoing.value),
    }


def outgoing_detail(pending: Pending) -> dict[str, Any]:
    """Return everything that is known of a message in the outbox."""
    return outgoing_row(pending) | {
        "headers": _headers(pending.outgoing.headers),
        **_bytes("value", pending.outgoing.value),
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "source": message.source,
        "position": message.position,
        "ordering_key": message.ordering_key,
        **_bytes("record_key", message.record_key),
        "headers": _headers(message.headers),
        **_bytes("value", message.value),
    }


def _headers(headers: tuple[tuple[str, bytes], ...]) -> list[dict[str, Any]]:
    return [{"name": name, **_bytes("value", value)} for name, value in headers]


def _bytes(name: str, value: bytes | None) -> dict[str, Any]:
    """Return a field for bytes: its text, or base64 where they are no UTF-8; `…_encoding` says which."""
    if value is None:
        return {name: None}
    try:
        return {name: value.decode(), f"{name}_encoding": "text"}
    except UnicodeDecodeError:
        return {name: base64.b64encode(value).decode(), f"{name}_encoding": "base64"}


def _result(result: bytes | None) -> Any:
    if result is None:
        return None
    try:
        return msgspec.json.decode(result)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _bytes("value", result)
