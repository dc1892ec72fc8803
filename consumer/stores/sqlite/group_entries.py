"""What a group's transaction does to entries: they become done at once, unseen until the commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from consumer.entry import Answer, Claim, Landing, Settle, Settled, State, Taken, Won
from consumer.errors import GroupFault
from consumer.message import Outgoing
from consumer.stores.sqlite.arrivals import due_entries
from consumer.stores.sqlite.claims import judge, see
from consumer.stores.sqlite.lanes import leave
from consumer.stores.sqlite.rows import land, reserve, send
from consumer.stores.sqlite.settles import settle as settle_running

__all__ = ["Undo", "claim", "due", "fill", "is_over", "leave_lanes", "settle", "take", "unclaim"]

Undo = dict[bytes, tuple[Any, ...] | None]
"""Entries that this transaction has claimed, as they were before; `None` for those that were not there."""

_FIRST = f"""insert into consumer_inbox
    (id, app, tenant, handler, key, fingerprint, on_lapse, budget, token, created_at, state, attempts)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {State.DONE:d}, 1)
    on conflict (id) do nothing"""

_NEXT = f"""update consumer_inbox set state = {State.DONE:d}, before = state, token = ?,
    attempts = attempts + 1, on_lapse = coalesce(?, on_lapse), budget = coalesce(?, budget), nonce = null,
    due_at = null, message = null, reason = null
    where seq = ?"""

_CHANGED = "state, before, token, attempts, on_lapse, budget, nonce, due_at, message, reason, place"
_KEEP = f"select id, {_CHANGED} from consumer_inbox where seq = ?"
_RESTORE = f"update consumer_inbox set ({_CHANGED}) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) where id = ?"

_REOPEN = f"""update consumer_inbox set state = {State.RUNNING:d}, message = ?
    where id = ? and token = ? and state = {State.DONE:d}"""

_TAKE = f"""update consumer_inbox set state = {State.DONE:d}, worker = null, nonce = null, due_at = null,
    message = null, reason = null
    where id = ? and token = ? and state = {State.RUNNING:d}"""

_TAKEN = (
    "select id, tenant, handler, key, fingerprint, message, keyed, lane from consumer_inbox where seq = ?"
)


def claim(
    connection: sqlite3.Connection, app: str, claims: Sequence[Claim], at: float, undo: Undo
) -> list[Answer]:
    """Make the entries of `claims` done; `at` is now, `undo` gets what `unclaim` needs."""
    first = reserve(connection, len(claims))
    rows = [
        (
            one.identity,
            app,
            one.tenant,
            one.handler,
            one.key,
            one.fingerprint,
            one.on_lapse,
            one.budget,
            first + i,
            at,
        )
        for i, one in enumerate(claims)
    ]
    new = connection.executemany(_FIRST, rows).rowcount
    if new == len(claims):  # the common case: none of them was ever seen
        undo.update((one.identity, None) for one in claims)
        return [Won(first + i, 1) for i in range(len(claims))]
    return [_claim(connection, one, first + i, at, undo) for i, one in enumerate(claims)]


def _claim(connection: sqlite3.Connection, one: Claim, token: int, at: float, undo: Undo) -> Answer:
    """Answer one claim after all were tried as new ones: those that were new carry the token."""
    seen = see(connection, one.identity)
    assert seen is not None  # noqa: S101 - it was there, or was inserted a moment ago by us, the only writer
    if seen.token == token:
        undo[one.identity] = None
        return Won(token, 1)
    answer = judge(seen, one, at, again=False)
    if answer is not None:
        return answer
    _make_done(connection, seen.seq, token, undo, (one.on_lapse, one.budget))
    return Won(token, seen.attempts + 1)


def due(
    connection: sqlite3.Connection, app: str, handlers: Sequence[str], *, limit: int, at: float, undo: Undo
) -> list[Taken]:
    """Make what is due done, and return it as it was."""
    seqs = due_entries(connection, app, handlers, limit=limit, at=at)
    first = reserve(connection, len(seqs))
    found = []
    for token, seq in enumerate(seqs, first):
        row = connection.execute(_TAKEN, (seq,)).fetchone()
        kept = _make_done(connection, seq, token, undo, (None, None))
        identity, tenant, handler, key, fingerprint, message, keyed, lane = row
        attempt = kept[3] + 1
        found.append(
            Taken(identity, tenant, handler, key, fingerprint, message, token, attempt, bool(keyed), lane)
        )
    return found


def _make_done(
    connection: sqlite3.Connection, seq: int, token: int, undo: Undo, rule: tuple[int | None, int | None]
) -> tuple[Any, ...]:
    """Make an entry done; return the columns of `_CHANGED` as they were."""
    identity, *kept = connection.execute(_KEEP, (seq,)).fetchone()
    undo[identity] = tuple(kept)
    connection.execute(_NEXT, (token, *rule, seq))
    return tuple(kept)


def take(connection: sqlite3.Connection, identity: bytes, token: int) -> bool:
    """Make an entry that runs with this token done; whether it did."""
    return connection.execute(_TAKE, (identity, token)).rowcount == 1


def leave_lanes(connection: sqlite3.Connection, ended: Sequence[bytes], at: float) -> None:
    """Let those start that wait behind entries which this transaction has done; `at` is now."""
    for identity in ended:
        leave(connection, identity, at)


def unclaim(connection: sqlite3.Connection, identities: Sequence[bytes], undo: Undo) -> None:
    """Make entries what they were before `claim` or `due`."""
    for identity in identities:
        kept = undo.pop(identity)
        if kept is None:
            connection.execute("delete from consumer_inbox where id = ?", (identity,))
        else:
            connection.execute(_RESTORE, (*kept, identity))


def settle(
    connection: sqlite3.Connection, app: str, settles: Sequence[Settle], at: float, undo: Undo
) -> None:
    """Settle entries that `claim` or `due` has made done, as if they ran; `at` is now.

    Raises:
        GroupFault: one of them is not done in this transaction any more.
    """
    for one in settles:
        kept = undo.pop(one.identity)
        message = None if kept is None else kept[_CHANGED.split(", ").index("message")]
        connection.execute(_REOPEN, (message, one.identity, one.token))
        if settle_running(connection, app, one, at) is Settled.LOST:
            raise GroupFault(
                "an entry of this group is gone: somebody ended its transaction, or changed its rows"
            )


def fill(
    connection: sqlite3.Connection,
    app: str,
    *,
    results: Sequence[tuple[bytes, bytes]],
    outgoing: Sequence[Outgoing],
    landings: Sequence[Landing],
    at: float,
) -> None:
    """Store results, insert outgoing messages, land.

    Raises:
        GroupFault: an entry is not done in this transaction any more.
    """
    if results:
        update = f"update consumer_inbox set result = ? where id = ? and state = {State.DONE:d}"
        rows = [(result, identity) for identity, result in results]
        if connection.executemany(update, rows).rowcount != len(rows):
            raise GroupFault(
                "entries of this group are gone: somebody ended its transaction, or changed its rows"
            )
    if outgoing:
        send(connection, app, outgoing, at)
    if landings:
        land(connection, app, landings, at)


def is_over(connection: sqlite3.Connection, identity: bytes, token: int) -> bool:
    """Whether an entry has this token and is what a group leaves behind: done, waiting or dead."""
    query = (
        "select 1 from consumer_inbox where id = ? and token = ?"
        f" and state in ({State.DONE:d}, {State.WAITING:d}, {State.DEAD:d})"
    )
    return connection.execute(query, (identity, token)).fetchone() is not None
