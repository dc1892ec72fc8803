"""The entries of one group: claimed as done in its transaction, and given back where their handlers did not run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg

from consumer.entry import Answer, Claim, Settle, Settled, Taken, Won
from consumer.errors import GroupFault
from consumer.stores.postgres.arrivals import READY
from consumer.stores.postgres.claims import second_look, unnest
from consumer.stores.postgres.connect import LOCK_TIMEOUT, Connection
from consumer.stores.postgres.lanes import Lane, leave, lock
from consumer.stores.postgres.rows import claim_arrays, taken, uuids
from consumer.stores.postgres.settles import settle

__all__ = ["GroupEntries"]

# The last branch is read when the insert is over: from then on handlers may wait for locks as their database says.
_INSERT = f"""
with won as (
    insert into consumer_inbox (id, token, created_at, state, on_lapse, attempts, budget, fingerprint,
                                app, tenant, handler, key)
    select c.id, nextval('consumer_token'), now(), 4, c.on_lapse, 1, c.budget, c.fingerprint,
           $1, c.tenant, c.handler, c.key
    from {unnest(3)}
    order by c.id
    on conflict (id) do nothing
    returning id, token
)
select id, token, null::float8 from won
union all select null, length(set_config('lock_timeout', $2::text, true)), extract(epoch from now())::float8
"""

_WAKE = f"""
with c as (select * from {unnest(1)}),
ready as (
    select e.id, e.state, e.token, e.due_at, e.message, e.reason from consumer_inbox e join c on c.id = e.id
    where e.state in (1, 3) and (e.message is null or (c.stored and e.due_at <= now()))
    order by e.id for update of e skip locked
)
update consumer_inbox e
set before = e.state, state = 4, token = nextval('consumer_token'), attempts = e.attempts + 1,
    on_lapse = c.on_lapse, budget = c.budget, due_at = null, message = null, reason = null, nonce = null
from ready r, c
where e.id = r.id and c.id = e.id
returning e.id, e.token, e.attempts, e.handler, e.tenant, e.lane, r.state, r.token as was, r.due_at, r.message, r.reason
"""

_DUE = f"""
with {READY}, claimed as (
    update consumer_inbox e
    set before = e.state, state = 4, token = nextval('consumer_token'), attempts = e.attempts + 1,
        due_at = null, message = null, reason = null, nonce = null
    from ready r where e.id = r.id
    returning e.id, e.tenant, e.handler, e.key, e.fingerprint, e.token, e.attempts, e.keyed, e.lane,
              r.state, r.token as was, r.due_at, r.message, r.reason
)
select claimed.* from (select set_config('lock_timeout', $4::text, true)) handlers left join claimed on true
order by due_at
"""

_TAKE = """
with mine as (select id from consumer_inbox where id = $1 and token = $2 and state = 2 for update skip locked),
done as (
    update consumer_inbox e
    set state = 4, due_at = null, worker = null, nonce = null, message = null, reason = null
    from mine where e.id = mine.id
    returning e.id, e.handler, e.tenant, e.lane
)
select done.* from (select set_config('lock_timeout', $3::text, true)) handlers left join done on true
"""

# These rows are this transaction's, so the insert never happens; as an upsert there is no join whose plan could flip.
_FILL = """
insert into consumer_inbox (id, result, token, created_at, state, on_lapse, attempts, budget, fingerprint,
                            app, tenant, handler, key)
select r.id, r.result, 0, now(), 4, 0, 0, 0, '', '', '', '', ''
from unnest($1::uuid[], $2::bytea[]) as r(id, result) order by r.id
on conflict (id) do update set result = excluded.result where consumer_inbox.state = 4
returning token
"""

_FORGET = "delete from consumer_inbox where id = any($1::uuid[]) and state = 4"

_GIVE_BACK = """
update consumer_inbox e
set state = c.state, token = c.token, due_at = c.due_at, message = c.message, reason = c.reason,
    attempts = e.attempts - 1
from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::timestamptz[], $5::bytea[], $6::text[])
    as c(id, state, token, due_at, message, reason)
where e.id = c.id and e.state = 4
"""

_REOPEN = """
update consumer_inbox e set state = 2, message = c.message
from unnest($1::uuid[], $2::bytea[]) as c(id, message)
where e.id = c.id and e.state = 4
"""


class GroupEntries:
    """What a group has claimed.

    Args:
        connection: the group's, in its transaction, under the lock time-out.
        app: this handle's.
        lock: the lock time-out that handlers have.

    Attributes:
        witness: identity and token of an entry that exists with that token when, and only when, the group committed.
    """

    def __init__(self, connection: Connection, app: str, lock: str) -> None:
        self._connection = connection
        self._app = app
        self._lock = lock
        self._woken: dict[bytes, asyncpg.Record] = {}
        self._tokens: dict[bytes, int] = {}
        self._settled: dict[bytes, int] = {}
        self._lanes: dict[bytes, Lane] = {}

    @property
    def witness(self) -> tuple[bytes, int] | None:  # noqa: D102 - described with the class
        return next(iter((self._tokens or self._settled).items()), None)

    async def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """See `ports.inbox.Group.claim`."""
        if not claims:
            return []
        won = await self._insert(claims)
        if len(won) == len(claims):
            return [won[claim.identity] for claim in claims]
        return await second_look(self._connection, claims, won, self._insert_again, self._wake, nonce=False)

    async def due(self, handlers: Sequence[str], limit: int) -> list[Taken]:
        """See `ports.inbox.Group.due`."""
        rows = await self._connection.fetch(_DUE, self._app, list(handlers), limit, self._lock)
        rows = [row for row in rows if row["id"] is not None]
        for row in rows:
            self._wakened(row)
        return [taken(row) for row in rows]

    async def take(self, identity: bytes, token: int) -> bool:
        """See `ports.inbox.Group.take`."""
        row = await self._connection.fetchrow(_TAKE, *uuids([identity]), token, self._lock)
        if row is None or row["id"] is None:
            return False
        self._tokens[identity] = token
        self._in_lane(identity, row)
        return True

    async def lock_lanes(self, joined: Collection[Lane]) -> None:
        """Lock the lanes that this transaction lets entries out of together with those that it lets entries in.

        All at once and in order: two that lock some, and later more, would wait for each other.
        """
        await lock(self._connection, self._app, {*joined, *self._lanes.values()})

    async def leave_lanes(self) -> None:
        """Let those start that wait behind what this transaction has done."""
        if self._lanes:
            await leave(self._connection, self._app, self._lanes)

    async def unclaim(self, identities: Sequence[bytes]) -> None:
        """See `ports.inbox.Group.unclaim`."""
        mine = [identity for identity in identities if self._tokens.pop(identity, None) is not None]
        for identity in mine:
            self._lanes.pop(identity, None)
        woken = [row for identity in mine if (row := self._woken.pop(identity, None)) is not None]
        given_back = {row["id"].bytes for row in woken}
        inserted = [identity for identity in mine if identity not in given_back]
        if inserted:
            await self._connection.execute(_FORGET, uuids(inserted))
        if woken:
            columns = ("id", "state", "was", "due_at", "message", "reason")
            await self._connection.execute(_GIVE_BACK, *([row[name] for row in woken] for name in columns))

    async def settle(self, settles: Sequence[Settle]) -> None:
        """See `ports.inbox.Group.settle`.

        Raises:
            GroupFault: one of them is not this group's.
        """
        if not settles:
            return
        messages = []
        for one in settles:
            self._settled[one.identity] = self._tokens.pop(one.identity)
            self._lanes.pop(one.identity, None)
            woken = self._woken.pop(one.identity, None)
            messages.append(None if woken is None else woken["message"])
        await self.limit_locks()
        await self._connection.execute(_REOPEN, uuids(one.identity for one in settles), messages)
        if Settled.LOST in await settle(self._connection, self._app, settles):
            raise GroupFault("entries of this group are gone: somebody undid or ended its transaction")

    async def fill(self, results: Sequence[tuple[bytes, bytes]]) -> None:
        """Store results of entries that this group claimed.

        Raises:
            GroupFault: one of them is not there any more.
        """
        rows = await self._connection.fetch(
            _FILL, uuids(identity for identity, _ in results), [result for _, result in results]
        )
        if len(rows) != len(results) or any(row[0] == 0 for row in rows):
            raise GroupFault("entries of this group are gone: somebody undid or ended its transaction")

    async def limit_locks(self) -> None:
        """Limit how long the statements that follow wait for another transaction's lock, as at the claim."""
        await self._connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")

    async def _insert(self, claims: Sequence[Claim]) -> dict[bytes, Won]:
        rows = await self._connection.fetch(_INSERT, self._app, self._lock, *claim_arrays(claims))
        [made] = [row[2] for row in rows if row[0] is None]
        won = {row[0].bytes: Won(row[1], 1, made) for row in rows if row[0] is not None}
        self._tokens.update((identity, answer.token) for identity, answer in won.items())
        return won

    async def _insert_again(self, claims: Sequence[Claim]) -> dict[bytes, Won]:
        await self.limit_locks()
        return await self._insert(claims)

    async def _wake(self, claims: Sequence[Claim]) -> dict[bytes, Won]:
        rows = await self._connection.fetch(_WAKE, *claim_arrays(claims))
        return {self._wakened(row): Won(row["token"], row["attempts"]) for row in rows}

    def _wakened(self, row: asyncpg.Record) -> bytes:
        identity: bytes = row["id"].bytes
        self._woken[identity] = row
        self._tokens[identity] = row["token"]
        self._in_lane(identity, row)
        return identity

    def _in_lane(self, identity: bytes, row: asyncpg.Record) -> None:
        if row["lane"] is not None:
            self._lanes[identity] = row["handler"], row["tenant"], row["lane"]
