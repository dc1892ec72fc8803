"""Values as scripts take them (packed arrays) and as they answer (nested lists of bytes and integers)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from consumer.entry import (
    Answer,
    Claim,
    Conflicting,
    Entry,
    Held,
    Landing,
    Settle,
    State,
    StoryLine,
    Taken,
    Won,
)
from consumer.message import Outgoing
from consumer.ports.outbox import Pending
from consumer.stores.redis.buckets import bucket_of, join, split

__all__ = [
    "SHARDS",
    "answer_of",
    "away",
    "claim_args",
    "clean",
    "entry_of",
    "landing_args",
    "micros",
    "outgoing_args",
    "pending_of",
    "raw",
    "settle_args",
    "taken_of",
]

SHARDS = 16
"""Of the outbox, each with one owner. Frozen: rows remember theirs."""

MICRO = 1_000_000
_CENTURY = 100 * 365 * 86_400.0
"""Seconds."""
_RAW = msgspec.Raw
# Lua's cmsgpack knows text and no binary type; its text is any bytes.
_HEADS = [bytes((0xA0 | length,)) if length < 32 else bytes((0xD9, length)) for length in range(256)]
_CONFLICT = "conflict: another payload or key has this identity"


def raw(value: bytes) -> msgspec.Raw:
    """Return bytes as scripts take them."""
    length = len(value)
    if length < 256:
        return _RAW(_HEADS[length] + value)
    head = b"\xda" + length.to_bytes(2, "big") if length < 65536 else b"\xdb" + length.to_bytes(4, "big")
    return _RAW(head + value)


def clean(text: str | None) -> msgspec.Raw | None:
    """Return a text for people, kept as well as it can be: a lone surrogate becomes a question mark."""
    return None if text is None else raw(text.encode(errors="replace"))


def micros(seconds: float) -> int:
    """Return a span in microseconds, as scripts count: a century at most, so that Lua's numbers hold it to the last digit."""
    return round(min(seconds, _CENTURY) * MICRO)


def claim_args(claim: Claim) -> tuple[Any, ...]:
    """Return a claim; see lua/judge.lua."""
    return (
        raw(claim.identity),
        raw(claim.key),
        raw(claim.fingerprint),
        raw(claim.nonce.to_bytes(8, "big")),
        claim.stored,
        claim.tenant,
        claim.handler,
        int(claim.on_lapse),
        claim.budget,
        None if claim.message is None else raw(claim.message),
    )


def settle_args(settle: Settle, app: str, bucket: int, buckets: int) -> tuple[Any, ...]:
    """Return a settle; see lua/settle.lua."""
    return (
        raw(settle.identity),
        split(settle.token, bucket),
        int(settle.kind),
        clean(settle.reason),
        None if settle.delay is None else micros(settle.delay),
        None if settle.result is None else raw(settle.result),
        None if settle.message is None else raw(settle.message),
        outgoing_args(settle.outgoing),
        [landing_args(landing, app, bucket, buckets) for landing in settle.landings],
    )


def landing_args(landing: Landing, app: str, bucket: int, buckets: int) -> tuple[Any, ...]:
    """Return a landing as a script of `bucket` takes it; see lua/landing.lua."""
    elsewhere = bucket_of(landing.identity, buckets) != bucket
    conflict_elsewhere = buckets > 1 and bucket_of(landing.conflict_identity, buckets) != bucket
    return (
        raw(landing.identity),
        landing.tenant,
        landing.handler,
        raw(landing.key),
        raw(landing.fingerprint),
        int(landing.on_lapse),
        landing.budget,
        raw(landing.message),
        int(landing.state),
        clean(landing.reason),
        landing.keyed,
        micros(landing.delay),
        raw(landing.conflict_identity),
        raw(away(app, landing)) if elsewhere else None,
        raw(away(app, _born_dead(landing))) if conflict_elsewhere and not elsewhere else None,
    )


def away(app: str, landing: Landing) -> bytes:
    """Return a landing as it waits in the bucket of the entry that made it, until it is moved to its own."""
    return msgspec.msgpack.encode((app, landing))


def _born_dead(landing: Landing) -> Landing:
    # Its conflict identity is its own: what is there already is left alone.
    return msgspec.structs.replace(
        landing,
        identity=landing.conflict_identity,
        state=State.DEAD,
        keyed=False,
        reason=_CONFLICT,
        delay=0.0,
    )


def outgoing_args(outgoing: Sequence[Outgoing]) -> list[tuple[Any, ...]]:
    """Return outgoing messages; see lua/outgoing.lua."""
    found = []
    for message in outgoing:
        lane = None if message.ordering_key is None else f"{message.topic}\0{message.ordering_key}".encode()
        body = msgspec.msgpack.encode(msgspec.structs.replace(message, delay=0.0))
        shard = zlib.crc32(message.id if lane is None else lane) % SHARDS
        found.append((shard, None if lane is None else raw(lane), micros(message.delay), raw(body)))
    return found


def answer_of(reply: Sequence[Any], bucket: int) -> Answer:
    """Return the answer to a claim."""
    if reply[0] == 1:
        return Won(join(reply[1], bucket), reply[2])
    if reply[0] == 3:
        key = reply[1] == b"key"
        return Conflicting(
            "another key has this identity" if key else "this key was used with another payload"
        )
    _, state, stored, drawn, attempt, created, result, reason = reply
    token, at = join(drawn, bucket), int(created) / MICRO
    return Held(State(state), bool(stored), token, attempt, result, _text(reason), at)


def taken_of(reply: Sequence[Any], bucket: int) -> Taken:
    """Return an entry that its taker got."""
    identity, tenant, handler, key, fingerprint, message, drawn, attempt, keyed = reply
    return Taken(
        identity,
        tenant.decode(),
        handler.decode(),
        key,
        fingerprint,
        message,
        join(drawn, bucket),
        attempt,
        bool(keyed),
    )


def entry_of(identity: bytes, reply: Sequence[Any], bucket: int) -> Entry:
    """Return an entry as people see it; see lua/seen.lua."""
    fields, message, result, story = reply
    app, tenant, handler, key, state, attempts, drawn, created, due, worker, reason, unkeyed = fields
    return Entry(
        identity=identity,
        app=app.decode(),
        tenant=tenant.decode(),
        handler=handler.decode(),
        key=key,
        state=State(state),
        attempts=attempts,
        token=join(drawn, bucket),
        created_at=int(created) / MICRO,
        due_at=None if due is None else int(due) / MICRO,
        worker=None if worker is None else int(worker),
        reason=_text(reason),
        result=result,
        message=message,
        keyed=not unkeyed,
        story=tuple(_line(msgspec.msgpack.decode(line), bucket) for line in story),
    )


def pending_of(reply: Sequence[Any], bucket: int) -> Pending:
    """Return a message in the outbox."""
    seq, body, created, parked, shard = reply
    outgoing = msgspec.msgpack.decode(body, type=Outgoing)
    app = shard.decode().rpartition("\0")[0]
    return Pending(join(int(seq), bucket), outgoing, _text(parked), int(created) / MICRO, app)


def _line(line: Sequence[Any], bucket: int) -> StoryLine:
    at, event, drawn, attempt, *reason = line
    return StoryLine(at / MICRO, event, join(int(drawn), bucket), int(attempt), reason[0] if reason else None)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
