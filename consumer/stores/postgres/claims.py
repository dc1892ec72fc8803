"""Claiming, as `turn` and a group's `claim` share it: insert what is new, then look a second time at the losers only.

An insert waits for another transaction's uncommitted key no longer than the lock time-out. Which row a loser met is
read by a later statement: within one, under READ COMMITTED, a race would show it no row at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import asyncpg

from consumer.entry import Answer, Claim, Conflicting, Held, State, Won
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.rows import uuids

__all__ = ["Start", "judge", "look", "second_look", "unnest"]

_COLUMNS = {
    "id": "uuid",
    "nonce": "bigint",
    "fingerprint": "bytea",
    "key": "bytea",
    "message": "bytea",
}
_SHARED = {
    "on_lapse": "smallint",
    "budget": "smallint",
    "stored": "boolean",
    "tenant": "text",
    "handler": "text",
}
"""Columns that most often have one value for all claims; it is sent once then."""

_LOOK = """
select e.id, e.key, e.fingerprint, e.state, e.nonce, e.token, e.attempts, e.result, e.reason,
       e.message is not null as stored, coalesce(e.due_at <= now(), false) as due,
       extract(epoch from e.created_at)::float8 as created_at
from consumer_inbox e where e.id = any($1::uuid[])
"""

_ROUNDS = 3
"""How often a key may change under our hands before the answer is that somebody else is at it."""


class Start(Protocol):
    """Starts entries: new ones, or those that wait."""

    async def __call__(self, claims: Sequence[Claim], /) -> dict[bytes, Won]:
        """Claim what can be claimed, without waiting for a row that somebody holds; return it by identity."""
        ...


def unnest(first: int) -> str:
    """Return the claims as a table `c`, their arrays being the parameters from number `first` on."""
    types = {**_COLUMNS, **_SHARED}
    arrays = {name: f"${first + n}::{kind}[]" for n, (name, kind) in enumerate(types.items())}
    # The shorter arrays are filled up with nulls.
    shared = ", ".join(f"coalesce(u.{name}, ({arrays[name]})[1]) as {name}" for name in _SHARED)
    own = ", ".join(f"u.{name}" for name in _COLUMNS)
    return (
        f"(select {own}, {shared} from unnest({', '.join(arrays.values())}) as u({', '.join(arrays)})) as c"
    )


async def look(connection: Connection, claims: Sequence[Claim]) -> dict[bytes, asyncpg.Record]:
    """Return the rows that claims meet, by identity."""
    rows = await connection.fetch(_LOOK, uuids(claim.identity for claim in claims))
    return {row["id"].bytes: row for row in rows}


def judge(row: asyncpg.Record | None, claim: Claim, *, nonce: bool = True) -> Answer | None:
    """Return what a claim that meets this row is answered; `None`: the entry is its to start.

    Args:
        row: of `look`.
        claim: of the same identity.
        nonce: a running entry with the claim's nonce was won by this very claim. Not in a group: what runs outside of
            it is another's.
    """
    if row is None:
        return None
    if row["key"] != claim.key:
        return Conflicting("another key has this identity")
    if row["fingerprint"] != claim.fingerprint:
        return Conflicting("this key was used with another payload")
    state, stored = row["state"], row["stored"]
    if nonce and state == State.RUNNING and row["nonce"] == claim.nonce:
        return Won(row["token"], row["attempts"])
    if state in {State.RECEIVED, State.WAITING} and (not stored or (claim.stored and row["due"])):
        return None
    return Held(
        State(state), stored, row["token"], row["attempts"], row["result"], row["reason"], row["created_at"]
    )


async def second_look(
    connection: Connection,
    claims: Sequence[Claim],
    won: dict[bytes, Won],
    insert: Start,
    wake: Start,
    *,
    nonce: bool = True,
) -> list[Answer]:
    """Answer all claims, of which `won` has those whose insert succeeded.

    Args:
        connection: where to look.
        claims: distinct identities.
        won: added to.
        insert: claims those that are absent (an entry may vanish after our insert has met it).
        wake: claims those that are received or waiting.
        nonce: as in `judge`.
    """
    answers: dict[bytes, Answer] = dict(won)
    for _ in range(_ROUNDS):
        losers = [claim for claim in claims if claim.identity not in answers]
        if not losers:
            break
        rows = await look(connection, losers)
        absent, resting = [], []
        for claim in losers:
            answer = judge(rows.get(claim.identity), claim, nonce=nonce)
            if answer is not None:
                answers[claim.identity] = answer
            elif claim.identity in rows:
                resting.append(claim)
            else:
                absent.append(claim)
        if absent:
            answers.update(await insert(absent))
        if resting:
            answers.update(await wake(resting))
    held = Held(State.RUNNING, stored=False)
    return [answers.get(claim.identity, held) for claim in claims]
