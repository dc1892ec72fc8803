"""Lanes: entries of one ordering key that start one at a time, in the order in which they were landed.

`place` is set while an entry is in its lane and unfinished; the lowest one is the head. What stands behind it has no due
time, so neither `due` nor a claim has to look at lanes. Who ends an entry gives the next one its due time. There is one
writer, so nobody can step in between.
"""

from __future__ import annotations

import sqlite3

__all__ = ["HEAD", "join", "leave"]

HEAD = """(select h.id from consumer_inbox h
    where h.place is not null and h.app = {of}.app and h.handler = {of}.handler and h.tenant = {of}.tenant
        and h.lane = {of}.lane
    order by h.place limit 1)"""
"""The head of the lane of a row, as SQL."""

_OTHERS = """select 1 from consumer_inbox
    where place is not null and app = ? and handler = ? and tenant = ? and lane = ? and id <> ? limit 1"""

_JOIN = "update consumer_inbox set place = ?, due_at = ?, not_before = ? where id = ?"

_LEAVE = """update consumer_inbox set place = null, not_before = null where id = ? and place is not null
    returning app, handler, tenant, lane"""

_NEXT = """select seq, not_before, due_at from consumer_inbox
    where place is not null and app = ? and handler = ? and tenant = ? and lane = ? order by place limit 1"""

_PROMOTE = "update consumer_inbox set due_at = ?, not_before = null where seq = ?"


def join(connection: sqlite3.Connection, identity: bytes, place: int, due_at: float) -> None:
    """Put an entry that is received or waiting at the end of its lane, if it has one.

    Args:
        connection: in a transaction of the writer.
        identity: the entry.
        place: from the sequence of the tokens, which never goes back.
        due_at: when it may start at the earliest.
    """
    row = connection.execute(
        "select app, handler, tenant, lane from consumer_inbox where id = ?", (identity,)
    ).fetchone()
    if row is None or row[3] is None:
        return
    parked = connection.execute(_OTHERS, (*row, identity)).fetchone() is not None
    times = (None, due_at) if parked else (due_at, None)
    connection.execute(_JOIN, (place, *times, identity))


def leave(connection: sqlite3.Connection, identity: bytes, at: float) -> None:
    """Take an entry that is done or dead out of its lane, if it is in one, and let the next one start; `at` is now."""
    left = connection.execute(_LEAVE, (identity,)).fetchall()
    for lane in left:
        following = connection.execute(_NEXT, lane).fetchone()
        if following is not None and following[2] is None:
            seq, not_before, _ = following
            connection.execute(_PROMOTE, (at if not_before is None else not_before, seq))
