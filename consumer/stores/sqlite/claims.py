"""What a claim is answered: the same judgement for `turn`, `look` and the group's claim."""

from __future__ import annotations

import sqlite3

import msgspec

from consumer.entry import Answer, Claim, Conflicting, Held, State, Won

__all__ = ["Seen", "judge", "see"]


class Seen(msgspec.Struct, gc=False):
    """An entry, as far as a claim looks at it."""

    seq: int
    key: bytes
    fingerprint: bytes
    state: int
    token: int
    attempts: int
    nonce: int | None
    due_at: float | None
    stored: int
    result: bytes | None
    reason: str | None
    created_at: float


_SEE = """select seq, key, fingerprint, state, token, attempts, nonce, due_at, message is not null, result,
    reason, created_at from consumer_inbox where id = ?"""


def see(connection: sqlite3.Connection, identity: bytes) -> Seen | None:
    """Return the entry of an identity, `None` where there is none."""
    row = connection.execute(_SEE, (identity,)).fetchone()
    return None if row is None else Seen(*row)


def judge(seen: Seen, claim: Claim, at: float, *, again: bool) -> Answer | None:
    """Return why an entry that is there is not this claim's to start; `None` where it is.

    Args:
        seen: the entry.
        claim: the claim.
        at: now.
        again: the same claim asked again is answered `Won` again (outside a group's transaction).
    """
    if seen.key != claim.key:
        return Conflicting("another key has this identity")
    if seen.fingerprint != claim.fingerprint:
        return Conflicting("this key was used with another payload")
    if again and seen.state == State.RUNNING and seen.nonce == claim.nonce:
        return Won(seen.token, seen.attempts)
    if seen.state in {State.RECEIVED, State.WAITING}:
        due = seen.due_at is not None and seen.due_at <= at
        if not seen.stored or (claim.stored and due):
            return None
    return Held(
        State(seen.state),
        bool(seen.stored),
        seen.token,
        seen.attempts,
        seen.result,
        seen.reason,
        seen.created_at,
    )
