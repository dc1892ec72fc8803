"""The outside world: a file of lines that no rollback takes back (e-mail, a payment provider)."""

from __future__ import annotations

import os
import time

import msgspec

from consumer import Context

__all__ = ["write_effect"]


def write_effect(kind: str, key: str, ctx: Context) -> None:
    """Append one line to the effects file, in one write.

    Args:
        kind: the topic.
        key: of the message.
        ctx: of the attempt.
    """
    line = {
        "kind": kind,
        "key": key,
        "idempotency_key": ctx.idempotency_key,
        "token": ctx.fencing_token,
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "at": time.time(),
    }
    path = os.environ.get("SHOP_EFFECTS") or "effects.jsonl"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(file)
