"""The careful way to settle: lock the rows, decide by the table of `rules.states`, write each kind at once.

Plain completions never come here unless they find their entry in another state than running.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from consumer.entry import Kind, Settle, Settled, State
from consumer.rules.states import TRANSITIONS, Event
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.landing import land, lanes_of
from consumer.stores.postgres.lanes import Lane, leave, lock
from consumer.stores.postgres.rows import clean, in_seconds, uuids
from consumer.stores.postgres.writes import Line, send, tell

__all__ = ["settle"]

_EVENTS = {
    Kind.COMPLETE: Event.COMPLETE,
    Kind.RETRY: Event.RETRY,
    Kind.DOUBT: Event.DOUBT,
    Kind.BURY: Event.BURY,
    Kind.RELEASE: Event.RELEASE,
}
_STORY = {State.WAITING: "retry", State.IN_DOUBT: "doubt", State.DEAD: "bury"}
_BODILY = frozenset({State.WAITING, State.IN_DOUBT, State.DEAD})
_FINAL = frozenset({State.DONE, State.DEAD})

_LOCK = """
select id, state, before, token, attempts, budget, reason,
       app, handler, tenant, lane, place from consumer_inbox
where id = any($1::uuid[]) order by id for update
"""
_WRITE = """
update consumer_inbox e
set state = c.state, attempts = c.attempts, reason = c.reason, result = c.result,
    due_at = now() + make_interval(secs => c.delay), worker = null, nonce = null, tries = 0,
    message = case when c.state = 4 then null else coalesce(e.message, c.message) end
from unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::text[], $5::bytea[], $6::float8[], $7::bytea[])
    as c(id, state, attempts, reason, result, delay, message)
where e.id = c.id
"""
_KEEP = """
update consumer_inbox e set message = c.message from unnest($1::uuid[], $2::bytea[]) as c(id, message)
where e.id = c.id and e.message is null
"""
_FORGET = "delete from consumer_inbox where id = any($1::uuid[])"
_RESOLVED = "select exists (select from consumer_story where id = $1 and event = 'resolve' and token = $2)"


class _Change(msgspec.Struct, gc=False):
    """What a settle makes of its row: the columns that `_WRITE` sets."""

    identity: bytes
    state: State
    attempts: int
    reason: str | None
    result: bytes | None
    delay: float | None
    message: bytes | None


class _Plan(msgspec.Struct):
    """Everything that one batch writes."""

    changes: list[_Change] = []
    gone: list[bytes] = []
    bodies: dict[bytes, bytes] = {}
    lines: list[Line] = []
    completed: list[Settle] = []
    suspects: list[Settle] = []
    left: dict[bytes, Lane] = {}


async def settle(connection: Connection, app: str, settles: Sequence[Settle]) -> list[Settled]:
    """Settle as `ports.inbox.Inbox.turn` says, inside the caller's transaction.

    Args:
        connection: in a transaction.
        app: whose outbox and inbox take what completions send.
        settles: at most one per identity.
    """
    rows = {row["id"].bytes: row for row in await connection.fetch(_LOCK, uuids(s.identity for s in settles))}
    plan = _Plan()
    answers = [_decide(plan, rows.get(one.identity), one) for one in settles]
    await _write(connection, plan)
    landings = [landing for one in plan.completed for landing in one.landings]
    if plan.left:
        if landings:  # all locks at once: two that lock some, and later more, would wait for each other
            await lock(connection, app, {*plan.left.values(), *lanes_of(landings)})
        await leave(connection, app, plan.left)
    for suspect in plan.suspects:
        if await connection.fetchval(_RESOLVED, *uuids([suspect.identity]), suspect.token):
            attempts = rows[suspect.identity]["attempts"]
            plan.lines.append((suspect.identity, "second_effect_suspected", suspect.token, attempts, None))
    await tell(connection, plan.lines)
    await send(connection, app, [message for one in plan.completed for message in one.outgoing])
    if landings:
        await land(connection, app, landings)
    return answers


def _decide(plan: _Plan, row: asyncpg.Record | None, one: Settle) -> Settled:
    if row is None:
        return Settled.LOST
    state = State(row["state"])
    if one.kind is Kind.ATTACH:
        if state not in _BODILY:
            return Settled.LOST
        _keep(plan, one)
        return Settled.OK
    if row["token"] == one.token:
        if (state, _EVENTS[one.kind]) in TRANSITIONS:
            _change(plan, row, one)
            return Settled.OK
        if state is _aim(row, one.kind):
            # The same settle again (its reply was lost), or a lapse has come to the same state before it: then the
            # entry may still lack its bytes, and an OK permits the acknowledgement.
            if state is not State.DONE:
                _keep(plan, one)
            return Settled.OK
    elif one.kind is Kind.COMPLETE:
        plan.suspects.append(one)
    return Settled.LOST


def _keep(plan: _Plan, one: Settle) -> None:
    if one.message is not None:
        plan.bodies[one.identity] = one.message


def _change(plan: _Plan, row: asyncpg.Record, one: Settle) -> None:
    identity, attempts = one.identity, row["attempts"]
    if row["place"] is not None and _aim(row, one.kind) in _FINAL:
        plan.left[identity] = row["handler"], row["tenant"], row["lane"]
    if row["state"] == State.IN_DOUBT:
        plan.lines.append((identity, "late", one.token, attempts, one.reason))
    if one.kind is Kind.COMPLETE:
        plan.completed.append(one)
        plan.changes.append(_Change(identity, State.DONE, attempts, None, one.result, None, None))
        return
    if one.kind is Kind.RELEASE:
        before = State(row["before"])
        if before is State.ABSENT:
            plan.gone.append(identity)
        else:
            plan.changes.append(_Change(identity, before, attempts - 1, row["reason"], None, 0.0, None))
        return
    aim = _aim(row, one.kind) or State.DEAD
    delay = None if aim is State.DEAD else in_seconds(one.delay)
    if aim is State.WAITING and delay is None:
        delay = 0.0
    plan.changes.append(_Change(identity, aim, attempts, clean(one.reason), None, delay, one.message))
    plan.lines.append((identity, _STORY[aim], one.token, attempts, one.reason))


def _aim(row: asyncpg.Record, kind: Kind) -> State | None:
    match kind:
        case Kind.COMPLETE:
            return State.DONE
        case Kind.RETRY:
            return State.DEAD if row["attempts"] >= row["budget"] else State.WAITING
        case Kind.DOUBT:
            return State.IN_DOUBT
        case Kind.BURY:
            return State.DEAD
        case _:
            return None


async def _write(connection: Connection, plan: _Plan) -> None:
    if plan.changes:
        await connection.execute(
            _WRITE,
            uuids(c.identity for c in plan.changes),
            [int(c.state) for c in plan.changes],
            [c.attempts for c in plan.changes],
            [c.reason for c in plan.changes],
            [c.result for c in plan.changes],
            [c.delay for c in plan.changes],
            [c.message for c in plan.changes],
        )
    if plan.gone:
        await connection.execute(_FORGET, uuids(plan.gone))
    if plan.bodies:
        await connection.execute(_KEEP, uuids(plan.bodies), list(plan.bodies.values()))
