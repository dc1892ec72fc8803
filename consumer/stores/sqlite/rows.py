"""What several verbs write, each with one statement text: tokens, stories, outgoing messages, landings."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from consumer.entry import Landed, Landing, State, StoryLine
from consumer.errors import StoreUnavailable
from consumer.message import Headers, Outgoing
from consumer.stores.sqlite.lanes import join

__all__ = ["OPEN", "headers_of", "land", "readable", "refuse_closed", "reserve", "send", "tell"]

OPEN = "open"
"""The state of a worker that lives, as far as its row knows."""

_INSERT = """insert into consumer_inbox
    (id, app, tenant, handler, key, fingerprint, on_lapse, budget, state, token, attempts, created_at, due_at,
     reason, message, keyed, lane)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?)
    on conflict (id) do nothing"""  # never INSERT OR IGNORE: it also swallows a NULL where none may be

_ATTACH = f"""update consumer_inbox set message = ?
    where id = ? and message is null and state in ({State.WAITING:d}, {State.IN_DOUBT:d}, {State.DEAD:d})"""

_headers = msgspec.msgpack.Encoder().encode
headers_of = msgspec.msgpack.Decoder(Headers).decode
"""Headers as `send` stored them."""


def reserve(connection: sqlite3.Connection, count: int) -> int:
    """Return the first of `count` new fencing tokens; unused ones are gaps, never given out again."""
    if count == 0:
        return 0
    update = "update consumer_tokens set last = last + ? returning last"
    [(last,)] = connection.execute(update, (count,)).fetchall()
    return int(last) - count + 1


def refuse_closed(connection: sqlite3.Connection, app: str, worker: int) -> None:
    """Refuse the claims of a worker that is closed, or is not this app's.

    Raises:
        StoreUnavailable: it may claim nothing any more.
    """
    row = connection.execute(
        "select state from consumer_workers where id = ? and app = ?", (worker, app)
    ).fetchone()
    if row is None or row[0] != OPEN:
        raise StoreUnavailable(f"worker {worker} is closed: it may claim nothing any more")


def readable(reason: str | None) -> str | None:
    """Return a reason that can be stored: an exception's text may hold halves of surrogate pairs, UTF-8 does not."""
    if reason is None or reason.isascii():
        return reason
    return reason.encode(errors="replace").decode()


def tell(connection: sqlite3.Connection, entry: bytes, line: StoryLine) -> None:
    """Add a line to the story of an entry."""
    connection.execute(
        "insert into consumer_story (entry, at, event, token, attempt, reason) values (?, ?, ?, ?, ?, ?)",
        (entry, line.at, line.event, line.token, line.attempt, readable(line.reason)),
    )


def send(connection: sqlite3.Connection, app: str, outgoing: Sequence[Outgoing], at: float) -> None:
    """Insert outgoing messages, in order; `at` is now."""
    connection.executemany(
        """insert into consumer_outbox (id, app, topic, ordering_key, headers, value, due_at, created_at)
           values (?, ?, ?, ?, ?, ?, ?, ?)""",
        [
            (
                message.id,
                app,
                message.topic,
                message.ordering_key,
                _headers(message.headers),
                message.value,
                at + message.delay if message.delay > 0 else None,
                at,
            )
            for message in outgoing
        ],
    )


def land(connection: sqlite3.Connection, app: str, landings: Sequence[Landing], at: float) -> list[Landed]:
    """Write entries at a way in, as `Arrivals.land` says; `at` is now."""
    return [_land(connection, app, landing, at) for landing in landings]


def _land(connection: sqlite3.Connection, app: str, landing: Landing, at: float) -> Landed:
    if _insert(connection, app, landing, at):
        return Landed.NEW
    [(key, fingerprint)] = connection.execute(
        "select key, fingerprint from consumer_inbox where id = ?", (landing.identity,)
    ).fetchall()
    # The identity of what cannot be keyed is a digest over the message itself: the same one is the same
    # message, though its `key`, a name for people, may be another place.
    if not landing.keyed or (key == landing.key and fingerprint == landing.fingerprint):
        connection.execute(_ATTACH, (landing.message, landing.identity))
        return Landed.DUPLICATE
    what = "payload" if key == landing.key else "key"
    born_dead = msgspec.structs.replace(
        landing,
        identity=landing.conflict_identity,
        state=State.DEAD,
        keyed=False,
        reason=f"conflict: another {what} has this identity",
    )
    _insert(connection, app, born_dead, at)
    return Landed.CONFLICT


def _insert(connection: sqlite3.Connection, app: str, landing: Landing, at: float) -> bool:
    inserted = connection.execute(
        _INSERT,
        (
            landing.identity,
            app,
            landing.tenant,
            landing.handler,
            landing.key,
            landing.fingerprint,
            landing.on_lapse,
            landing.budget,
            landing.state,
            at,
            None if landing.state is State.DEAD else at + landing.delay,
            readable(landing.reason),
            landing.message,
            landing.keyed,
            landing.lane,
        ),
    )
    if inserted.rowcount != 1:
        return False
    if landing.lane is not None and landing.state is not State.DEAD:
        join(connection, landing.identity, reserve(connection, 1), at + landing.delay)
    return True
