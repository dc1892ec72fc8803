"""What a log line about a key carries beside its text, and the line of what is landed dead."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from consumer.entry import Landed, Landing, State
from consumer.message import Message

__all__ = ["fields_of", "key_hash", "say_landed", "trace_id"]


def key_hash(key: bytes) -> str:
    """Return the first 8 hexadecimal digits of a key's SHA-256: keys themselves may be secret, and are not logged."""
    return hashlib.sha256(key).hexdigest()[:8]


def trace_id(message: Message) -> str | None:
    """Return the trace id of a `traceparent` header (W3C Trace Context, `00-<32 hex>-<16 hex>-<2 hex>`), if there is one."""
    parts = (message.header("traceparent") or b"").split(b"-")
    if len(parts) < 4 or len(parts[1]) != 32:
        return None
    try:
        int(parts[1], 16)
    except ValueError:
        return None
    return parts[1].decode().lower()


def fields_of(
    handler: str, tenant: str, key: bytes, state: State, *, attempt: int = 0, message: Message | None = None
) -> dict[str, Any]:
    """Return the fields of a delivery's end, as `docs/cli.md` names them.

    Args:
        handler: its name.
        tenant: whose key space.
        key: the raw key; only its hash is told.
        state: what its entry is now.
        attempt: how many there were; 0: none.
        message: for its trace.
    """
    fields: dict[str, Any] = {
        "handler": handler,
        "tenant": tenant,
        "key_hash": key_hash(key),
        "attempt": attempt,
        "state": state.word,
    }
    trace = None if message is None else trace_id(message)
    return fields | ({"trace_id": trace} if trace else {})


def say_landed(log: logging.Logger, landing: Landing, landed: Landed) -> None:
    """Log what was landed and nobody will run: a dead letter, or one beside the key's entry (a conflict), as a warning.

    Args:
        log: the way in's.
        landing: what was landed; durable now.
        landed: what became of it. One that was there already was said when it came.
    """
    conflict = landed is Landed.CONFLICT
    if landed is Landed.DUPLICATE or not (conflict or landing.state is State.DEAD):
        return
    fields = fields_of(
        landing.handler,
        landing.tenant,
        landing.key,
        State.DEAD,
        message=Message.decode(landing.message),
    )
    if conflict:
        log.warning(
            "%s: conflict, a dead letter: another payload under a key that is known",
            landing.handler,
            extra={"fields": fields},
        )
        return
    # Its key is a name for people: the position in its topic, or the dead letter's identity.
    name = landing.key.decode(errors="replace")
    log.warning(
        "%s: dead letter: %s (key %s)", landing.handler, landing.reason, name, extra={"fields": fields}
    )
