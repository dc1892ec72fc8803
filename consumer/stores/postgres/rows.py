"""Between values and rows: parameters as arrays, one per column; records as the values that ports exchange."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from consumer.entry import Claim, Entry, State, StoryLine, Taken
from consumer.message import Headers, Outgoing
from consumer.ports.outbox import Pending

__all__ = [
    "ENTRY_COLUMNS",
    "LONGEST_DELAY",
    "PENDING_COLUMNS",
    "UUID",
    "claim_arrays",
    "clean",
    "entry",
    "headers_of",
    "in_seconds",
    "nulls",
    "pending",
    "taken",
    "uuids",
]

LONGEST_DELAY = 10 * 365 * 86_400.0
"""Seconds. A later time is a mistake that the server would refuse again and again."""

ENTRY_COLUMNS = """e.id, e.app, e.tenant, e.handler, e.key, e.state, e.attempts, e.token,
    extract(epoch from e.created_at)::float8 as created_at, extract(epoch from e.due_at)::float8 as due_at,
    e.worker, e.reason, e.message, e.keyed, e.lane"""

PENDING_COLUMNS = """o.app, o.seq, o.id, o.topic, o.ordering_key, o.headers, o.value, o.parked,
    extract(epoch from o.created_at)::float8 as created_at"""


def uuids(identities: Iterable[bytes]) -> list[UUID]:
    """Return identities as the driver wants them."""
    return [UUID(identity) for identity in identities]


def clean(text: str | None) -> str | None:
    """Return a text that PostgreSQL can keep: a NUL and lone surrogates, which it refuses, become signs for them."""
    if text is None or (text.isascii() and "\x00" not in text):
        return text
    return text.replace("\x00", "\u2400").encode("utf-8", "replace").decode()


def in_seconds(delay: float | None) -> float | None:
    """Return a delay that the server's arithmetic can bear."""
    return None if delay is None else min(max(delay, 0.0), LONGEST_DELAY)


def claim_arrays(claims: Sequence[Claim]) -> tuple[list[Any], ...]:
    """Return the columns of claims, for `consumer.stores.postgres.claims.unnest`."""
    return (
        [UUID(c.identity) for c in claims],
        [c.nonce for c in claims],
        [c.fingerprint for c in claims],
        [c.key for c in claims],
        nulls([c.message for c in claims]),
        _once([c.on_lapse for c in claims]),
        _once([c.budget for c in claims]),
        _once([c.stored for c in claims]),
        [clean(tenant) for tenant in _once([c.tenant for c in claims])],
        [clean(handler) for handler in _once([c.handler for c in claims])],
    )


def nulls(column: list[Any]) -> list[Any]:
    """Return a column, or nothing where it is empty throughout: `unnest` fills up with nulls.

    Whatever is not text or bytes costs the driver 0.1 microseconds an element.
    """
    return [] if column.count(None) == len(column) else column


def _once(column: list[Any]) -> list[Any]:
    """Return a column, or its first value alone where all are the same."""
    return column[:1] if column.count(column[0]) == len(column) else column


def taken(row: asyncpg.Record) -> Taken:
    """Return a claimed entry as its taker gets it."""
    return Taken(
        row["id"].bytes,
        row["tenant"],
        row["handler"],
        row["key"],
        row["fingerprint"],
        row["message"],
        row["token"],
        row["attempts"],
        row["keyed"],
        row["lane"],
    )


def entry(row: asyncpg.Record, result: bytes | None = None, story: tuple[StoryLine, ...] = ()) -> Entry:
    """Return an entry as people see it, from `ENTRY_COLUMNS`."""
    return Entry(
        identity=row["id"].bytes,
        app=row["app"],
        tenant=row["tenant"],
        handler=row["handler"],
        key=row["key"],
        state=State(row["state"]),
        attempts=row["attempts"],
        token=row["token"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        worker=row["worker"],
        reason=row["reason"],
        result=result,
        message=row["message"],
        keyed=row["keyed"],
        story=story,
        lane=row["lane"],
        behind=head.bytes if (head := row["head"]) is not None and head != row["id"] else None,
    )


def pending(row: asyncpg.Record) -> Pending:
    """Return a message of the outbox, from `PENDING_COLUMNS`."""
    key = row["ordering_key"]
    outgoing = Outgoing(
        id=row["id"].bytes,
        topic=row["topic"],
        value=row["value"],
        headers=_decode_headers(row["headers"]),
        ordering_key=None if key is None else key.decode("utf-8", "surrogatepass"),
    )
    return Pending(row["seq"], outgoing, row["parked"], row["created_at"], row["app"])


def headers_of(outgoing: Outgoing) -> bytes:
    """Return headers as the outbox keeps them."""
    return _encode_headers(outgoing.headers)


_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode
