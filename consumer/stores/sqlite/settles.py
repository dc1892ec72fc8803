"""The end of one attempt: what each kind of settle makes of its entry."""

from __future__ import annotations

import sqlite3

import msgspec

from consumer.entry import Kind, Settle, Settled, State, StoryLine
from consumer.stores.sqlite.lanes import leave
from consumer.stores.sqlite.rows import land, readable, send, tell

__all__ = ["settle"]

_COMPLETE = f"""update consumer_inbox set state = {State.DONE:d}, result = ?, message = null, reason = null,
    due_at = null, worker = null, nonce = null
    where id = ? and token = ? and state = {State.RUNNING:d} and place is null"""
"""The common case in one statement; whatever it does not find is looked at closely."""

_LATE = f"""update consumer_inbox set state = {State.DONE:d}, result = ?, message = null, reason = null,
    due_at = null where id = ?"""

_IN_LANE = f"""update consumer_inbox set state = {State.DONE:d}, result = ?, message = null, reason = null,
    due_at = null, worker = null, nonce = null where id = ?"""

_END = """update consumer_inbox set state = ?, due_at = ?, reason = ?, message = coalesce(message, ?),
    worker = null, nonce = null, tries = 0
    where id = ?"""

_RELEASE = """update consumer_inbox set state = before, attempts = attempts - 1, due_at = ?, worker = null,
    nonce = null where id = ?"""

_ATTACH = "update consumer_inbox set message = ? where id = ? and message is null"

_BODILY = frozenset({State.WAITING, State.IN_DOUBT, State.DEAD})
_STORY = {State.WAITING: "retry", State.IN_DOUBT: "doubt", State.DEAD: "bury"}


class _Row(msgspec.Struct, gc=False):
    """An entry, as far as a settle looks at it."""

    state: int
    token: int
    before: int
    attempts: int
    budget: int


def settle(connection: sqlite3.Connection, app: str, one: Settle, at: float) -> Settled:
    """Apply one settle, as `Inbox.turn` says; `at` is now."""
    if one.kind is Kind.COMPLETE:
        values = (one.result, one.identity, one.token)
        if connection.execute(_COMPLETE, values).rowcount == 1:
            return _publish(connection, app, one, at)
    row = connection.execute(
        "select state, token, before, attempts, budget from consumer_inbox where id = ?", (one.identity,)
    ).fetchone()
    if row is None:
        return Settled.LOST
    entry = _Row(*row)
    match one.kind:
        case Kind.COMPLETE:
            return _complete_late(connection, app, entry, one, at)
        case Kind.ATTACH:
            return _attach(connection, one) if entry.state in _BODILY else Settled.LOST
        case Kind.RELEASE:
            return _release(connection, entry, one, at)
        case _:
            return _end(connection, entry, one, at)


def _publish(connection: sqlite3.Connection, app: str, one: Settle, at: float) -> Settled:
    if one.outgoing:
        send(connection, app, one.outgoing, at)
    if one.landings:
        land(connection, app, one.landings, at)
    return Settled.OK


def _complete_late(connection: sqlite3.Connection, app: str, entry: _Row, one: Settle, at: float) -> Settled:
    if entry.token == one.token:
        if entry.state == State.DONE:
            return Settled.OK  # the same settle again: its reply was lost
        if entry.state == State.RUNNING:  # in a lane
            connection.execute(_IN_LANE, (one.result, one.identity))
            leave(connection, one.identity, at)
            return _publish(connection, app, one, at)
        if entry.state == State.IN_DOUBT:
            tell(connection, one.identity, StoryLine(at, "late", entry.token, entry.attempts, one.reason))
            connection.execute(_LATE, (one.result, one.identity))
            leave(connection, one.identity, at)
            return _publish(connection, app, one, at)
        return Settled.LOST
    # Refused. Where a resolution said meanwhile what had become of this very attempt, it may have happened
    # twice.
    resolved = connection.execute(
        "select 1 from consumer_story where entry = ? and event = 'resolve' and token = ?",
        (one.identity, one.token),
    ).fetchone()
    if resolved is not None:
        line = StoryLine(at, "second_effect_suspected", one.token, entry.attempts, one.reason)
        tell(connection, one.identity, line)
    return Settled.LOST


def _end(connection: sqlite3.Connection, entry: _Row, one: Settle, at: float) -> Settled:
    """Retry, doubt or bury."""
    if entry.token != one.token:
        return Settled.LOST
    late = entry.state == State.IN_DOUBT and one.kind is not Kind.DOUBT
    if entry.state == State.RUNNING or late:
        if late:
            tell(connection, one.identity, StoryLine(at, "late", entry.token, entry.attempts, one.reason))
        aim, due_at = _aim(entry, one, at)
        connection.execute(_END, (aim, due_at, readable(one.reason), one.message, one.identity))
        if aim is State.DEAD:
            leave(connection, one.identity, at)
        tell(connection, one.identity, StoryLine(at, _STORY[aim], entry.token, entry.attempts, one.reason))
        return Settled.OK
    if entry.state == _aim(entry, one, at)[0]:
        # The same settle again, or a lapse came to the same state before it. In the second case the entry may
        # still lack its bytes, and an OK permits the acknowledgement.
        return _attach(connection, one)
    return Settled.LOST


def _aim(entry: _Row, one: Settle, at: float) -> tuple[State, float | None]:
    """Return the state that a retry, doubt or burial leads to, and when that is due."""
    if one.kind is Kind.BURY or (one.kind is Kind.RETRY and entry.attempts >= entry.budget):
        return State.DEAD, None
    if one.kind is Kind.DOUBT:
        return State.IN_DOUBT, None if one.delay is None else at + one.delay
    return State.WAITING, at + (one.delay or 0.0)


def _release(connection: sqlite3.Connection, entry: _Row, one: Settle, at: float) -> Settled:
    if entry.state != State.RUNNING or entry.token != one.token:
        return Settled.LOST
    if entry.before == State.ABSENT:
        connection.execute("delete from consumer_inbox where id = ?", (one.identity,))
    else:
        connection.execute(_RELEASE, (at, one.identity))
    return Settled.OK


def _attach(connection: sqlite3.Connection, one: Settle) -> Settled:
    if one.message is not None:
        connection.execute(_ATTACH, (one.message, one.identity))
    return Settled.OK
