"""Claims and settles: `ports.inbox.Inbox`. The usual turn is one statement, whatever its size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import asyncpg

from consumer.entry import Answer, Claim, Held, Kind, Settle, Settled, State, Won
from consumer.errors import StoreUnavailable
from consumer.stores.postgres.claims import judge, look, second_look, unnest
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import claim_arrays, nulls, uuids
from consumer.stores.postgres.settles import settle
from consumer.stores.postgres.writes import outgoing_arrays

__all__ = ["PostgresInbox"]


class PostgresInbox:
    """`ports.inbox.Inbox`.

    Args:
        pool: for the store's own statements.
        app: this handle's.
    """

    def __init__(self, pool: Pool, app: str) -> None:
        self._pool = pool
        self._app = app

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        """Settle the finished, then claim the next; see `ports.inbox.Inbox.turn`."""
        if not settles and not claims:
            return [], []
        return await self._pool.call(functools.partial(self._turn, worker, settles, claims))

    async def look(self, claims: Sequence[Claim]) -> list[Answer | None]:
        """Read what `turn` would answer; see `ports.inbox.Inbox.look`."""
        if not claims:
            return []
        rows = await self._pool.call(lambda connection: look(connection, claims))
        answers = [judge(rows.get(claim.identity), claim) for claim in claims]
        return [None if isinstance(answer, Won) else answer for answer in answers]

    async def _turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim], connection: Connection
    ) -> tuple[list[Settled], list[Answer]]:
        try:
            return await self._in_one_commit(worker, settles, claims, connection)
        except asyncpg.LockNotAvailableError:
            if not claims:
                raise
            # Somebody's uncommitted key is among the claims, and the whole turn was undone.
            settled = await self._settle(settles, connection) if settles else []
            return settled, await self._claim_around(worker, claims, connection)

    async def _in_one_commit(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim], connection: Connection
    ) -> tuple[list[Settled], list[Answer]]:
        claimed = {claim.identity for claim in claims}
        plain = all(
            one.kind is Kind.COMPLETE and not (one.landings or one.in_lane) and one.identity not in claimed
            for one in settles
        )
        if not plain:
            async with connection.transaction():
                settled = await settle(connection, self._app, settles)
                _, won = await self._at_once(connection, worker, (), claims)
                return settled, await self._answers(connection, worker, claims, won)
        done, won = await self._at_once(connection, worker, settles, claims)
        settled = [Settled.OK if one.identity in done else Settled.LOST for one in settles]
        lost = [number for number, one in enumerate(settled) if one is Settled.LOST]
        if lost:
            # Late, repeated, or really lost: the row says which.
            again = await self._settle([settles[number] for number in lost], connection)
            for number, one in zip(lost, again, strict=True):
                settled[number] = one
        return settled, await self._answers(connection, worker, claims, won)

    async def _at_once(
        self, connection: Connection, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[set[bytes], dict[bytes, Won]]:
        """One statement: the identities that it made done, and the claims that it won."""
        if not settles and not claims:
            return set(), {}
        sends = [(one.identity, message) for one in settles for message in one.outgoing]
        arguments: list[Any] = [worker, self._app]
        if settles:
            arguments += (
                uuids(s.identity for s in settles),
                [s.token for s in settles],
                nulls([s.result for s in settles]),
            )
        if sends:
            arguments += (
                uuids(entry for entry, _ in sends),
                *outgoing_arrays([message for _, message in sends]),
            )
        if claims:
            arguments += claim_arrays(claims)
        rows = await connection.fetch(_sql(bool(settles), bool(sends), bool(claims)), *arguments)
        if claims and not any(row[0] == _ME for row in rows):
            raise StoreUnavailable(f"worker {worker} is closed: it may claim nothing any more")
        done = {row[1].bytes for row in rows if row[0] == _DONE}
        return done, {row[1].bytes: Won(row[2], 1) for row in rows if row[0] == _WON}

    async def _answers(
        self, connection: Connection, worker: int, claims: Sequence[Claim], won: dict[bytes, Won]
    ) -> list[Answer]:
        if len(won) == len(claims):
            return [won[claim.identity] for claim in claims]

        async def insert(again: Sequence[Claim]) -> dict[bytes, Won]:
            return (await self._at_once(connection, worker, (), again))[1]

        async def wake(resting: Sequence[Claim]) -> dict[bytes, Won]:
            rows = await connection.fetch(_WAKE, worker, *claim_arrays(resting))
            return {row[0].bytes: Won(row[1], row[2]) for row in rows}

        return await second_look(connection, claims, won, insert, wake)

    async def _settle(self, settles: Sequence[Settle], connection: Connection) -> list[Settled]:
        async with connection.transaction():
            return await settle(connection, self._app, settles)

    async def _claim_around(
        self, worker: int, claims: Sequence[Claim], connection: Connection
    ) -> list[Answer]:
        """Claim in halves, so that only the keys that somebody holds are answered as running."""
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{_SHORT}'")
                _, answers = await self._in_one_commit(worker, (), claims, connection)
        except asyncpg.LockNotAvailableError:
            if len(claims) == 1:
                return [Held(State.RUNNING, stored=False)]
            half = len(claims) // 2
            return [
                *await self._claim_around(worker, claims[:half], connection),
                *await self._claim_around(worker, claims[half:], connection),
            ]
        return answers


_SHORT = "10ms"
"""The lock time-out once it is known that somebody holds a key: the search for it is a dozen statements long."""

_DONE, _WON, _ME = 0, 1, 2


@functools.cache
def _sql(settles: bool, sends: bool, claims: bool) -> str:
    """Return the statement of a turn with these parts; its parameters are numbered in this order."""
    number = itertools.count(3)

    def arrays(*kinds: str) -> str:
        return ", ".join(f"${next(number)}::{kind}[]" for kind in kinds)

    # Every variant names both, so that the numbering is one.
    parts = ["asked as (select $1::bigint as worker, $2::text as app)"]
    if claims:
        parts.append(_ME_OPEN)
    answers = []
    if settles:
        # Refused claims refuse the whole turn.
        when = " and exists (select from me)" if claims else ""
        parts.append(_SETTLE.format(arrays=arrays("uuid", "bigint", "bytea"), when=when))
        answers.append(f"select {_DONE} as what, id, 0::bigint as token from settled")
    if sends:
        kinds = ("uuid", "uuid", "smallint", "text", "bytea", "bytea", "bytea", "float8")
        parts.append(_SENDS.format(arrays=arrays(*kinds)))
    if claims:
        parts.append(_CLAIMS.format(claims=unnest(next(number))))
        answers.append(f"select {_WON}, id, token from won")
        answers.append(f"select {_ME}, null, id from me")
    return f"with {', '.join(parts)} {' union all '.join(answers)}"


_SETTLE = """settled as (
    update consumer_inbox e
    set state = 4, result = s.result, reason = null, due_at = null, worker = null, nonce = null, message = null
    from unnest({arrays}) as s(id, token, result)
    where e.id = s.id and e.token = s.token and e.state = 2 and e.place is null{when}
    returning e.id
)"""

_SENDS = """sent as (
    insert into consumer_outbox (app, id, shard, topic, ordering_key, headers, value, due_at)
    select $2, o.id, o.shard, o.topic, o.ordering_key, o.headers, o.value,
           clock_timestamp() + make_interval(secs => o.delay)
    from settled s join unnest({arrays}) with ordinality
        as o(entry, id, shard, topic, ordering_key, headers, value, delay, place) on s.id = o.entry
    order by o.place
)"""

# Closing a worker takes its row FOR UPDATE: it waits for this lock, and this lock waits for it. A beat waits for neither.
_ME_OPEN = "me as (select id from consumer_workers where id = $1 and state = 'open' for key share)"

_CLAIMS = """won as (
    insert into consumer_inbox (id, token, created_at, worker, nonce, state, on_lapse, attempts, budget,
                                fingerprint, app, tenant, handler, key, message)
    select c.id, nextval('consumer_token'), now(), $1, c.nonce, 2, c.on_lapse, 1, c.budget,
           c.fingerprint, $2, c.tenant, c.handler, c.key, c.message
    from me cross join {claims}
    order by c.id
    on conflict (id) do nothing
    returning id, token
)"""

_WAKE = f"""
with {_ME_OPEN},
ready as (
    select e.id, c.nonce, c.on_lapse, c.budget, c.message from consumer_inbox e join {unnest(2)} on c.id = e.id
    where e.state in (1, 3) and (e.message is null or (c.stored and e.due_at <= now()))
    order by e.id for update of e skip locked
)
update consumer_inbox e
set before = e.state, state = 2, token = nextval('consumer_token'), attempts = e.attempts + 1, worker = me.id,
    nonce = r.nonce, on_lapse = r.on_lapse, budget = r.budget, due_at = null, message = coalesce(e.message, r.message)
from me, ready r
where e.id = r.id
returning e.id, e.token, e.attempts
"""
