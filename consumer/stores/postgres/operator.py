"""What people ask of the store: `ports.operator.Operator`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from consumer.entry import Entry, State, StoryLine
from consumer.ports.operator import Backlog, Count, Resolution
from consumer.ports.outbox import Pending
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.doubts import resolve
from consumer.stores.postgres.lanes import HEAD, lock, places, promote
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import ENTRY_COLUMNS, PENDING_COLUMNS, clean, entry, pending, uuids

__all__ = ["PostgresOperator"]

_CHOSEN = """($1::text is null or e.app = $1) and ($2::text is null or e.handler = $2)
    and ($3::text is null or e.tenant = $3)"""

_APPS = """
select app from consumer_handlers union select app from consumer_workers union select app from consumer_inbox order by 1
"""

_HEAD = f"case when e.place is not null then {HEAD.format(of='e')} end as head"

_FIND = f"""
select {ENTRY_COLUMNS}, {_HEAD}, e.result from consumer_inbox e
where {_CHOSEN} and (e.key = $4 or e.id = $5) order by e.created_at, e.id
"""

_STORIES = """
select id, extract(epoch from at)::float8 as at, event, token, attempt, reason
from consumer_story where id = any($1::uuid[]) order by seq
"""

_ENTRIES = f"""
select {ENTRY_COLUMNS}, {_HEAD} from consumer_inbox e
where {_CHOSEN} and (cardinality($4::smallint[]) = 0 or e.state = any($4)) and ($6::bytea is null or e.lane = $6)
order by e.created_at, e.id limit $5
"""

_REDRIVE = """
with redriven as (
    update consumer_inbox e
    set state = 3, attempts = 0, tries = 0, token = nextval('consumer_token'), reason = $3, nonce = null, place = $4,
        due_at = case when $4::bigint is null then now() end
    from (select id, attempts from consumer_inbox where id = $1 and token = $2 and state = 6 for update) seen
    where e.id = seen.id
    returning e.id, seen.attempts
)
insert into consumer_story (id, event, token, attempt, reason) select id, 'redrive', $2, attempts, $3 from redriven
"""

_LANE = "select app, handler, tenant, lane from consumer_inbox where id = $1 and token = $2 and state = 6"

# One purger at a time and handler: every process purges, and whoever finds another one at it has nothing to do.
_PURGE = """
with turn as materialized (
    select pg_try_advisory_xact_lock(hashtextextended('consumer purge ' || $1 || ' ' || $2, 0)) as mine
), old as (
    select id from consumer_inbox
    where (select mine from turn) and app = $1 and handler = $2 and state = 4
        and created_at < now() - make_interval(secs => $3::float8)
    order by created_at limit $4 for update skip locked
), told as (
    delete from consumer_story s using old where s.id = old.id
)
delete from consumer_inbox e using old where e.id = old.id
"""

_STATS = """
select app, handler, state, count(*) as count, extract(epoch from min(created_at))::float8 as oldest,
    count(*) filter (where place is not null and state in (1, 3) and due_at is null) as behind
from consumer_inbox where $1::text is null or app = $1 group by app, handler, state order by app, handler, state
"""

_OUTGOING = f"""
select {PENDING_COLUMNS} from consumer_outbox o
where ($1::boolean is null or (o.parked is not null) = $1) and ($3::text is null or o.app = $3)
order by o.seq limit $2
"""

_BACKLOG = """
select count(*) - count(parked), count(parked),
    extract(epoch from min(created_at) filter (where parked is null))::float8
from consumer_outbox
"""

_UNPARK = "update consumer_outbox set parked = null where seq = any($1::bigint[]) and parked is not null"


class PostgresOperator:
    """`ports.operator.Operator`, over all apps of the store.

    Args:
        pool: for the store's own statements.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def apps(self) -> list[str]:
        """The apps in this store; see `ports.operator.Operator.apps`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_APPS))
        return [row["app"] for row in rows]

    async def find(
        self, key: bytes, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[Entry]:
        """All entries of a key or an identity; see `ports.operator.Operator.find`.

        There is no index on the raw key: it is a walk through the table, which people can wait for.
        """

        async def work(connection: Connection) -> list[Entry]:
            rows = await connection.fetch(_FIND, app, handler, tenant, key, _identity(key))
            stories: dict[bytes, list[StoryLine]] = {}
            for line in await connection.fetch(_STORIES, [row["id"] for row in rows]):
                told = StoryLine(line["at"], line["event"], line["token"], line["attempt"], line["reason"])
                stories.setdefault(line["id"].bytes, []).append(told)
            return [entry(row, row["result"], tuple(stories.get(row["id"].bytes, ()))) for row in rows]

        return await self._pool.call(work)

    async def entries(
        self,
        *,
        app: str | None = None,
        states: Sequence[State] = (),
        handler: str | None = None,
        tenant: str | None = None,
        lane: bytes | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Entries, oldest first; see `ports.operator.Operator.entries`."""
        numbers = [int(state) for state in states]
        rows = await self._pool.call(
            lambda connection: connection.fetch(_ENTRIES, app, handler, tenant, numbers, limit, lane)
        )
        return [entry(row) for row in rows]

    async def resolve(self, resolution: Resolution) -> bool:
        """As `Doubts.resolve`."""
        return await resolve(self._pool, resolution)

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        """Dead to waiting; see `ports.operator.Operator.redrive`."""

        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                place, lane = None, None
                row = await connection.fetchrow(_LANE, *uuids([identity]), token)
                if row is None:
                    return False
                if row["lane"] is not None:
                    lane = row["handler"], row["tenant"], row["lane"]
                    await lock(connection, row["app"], [lane])
                    [place] = await places(connection, 1)
                tag = await connection.execute(_REDRIVE, *uuids([identity]), token, clean(reason), place)
                if lane is not None:
                    await promote(connection, row["app"], [lane])
                return bool(tag == "INSERT 0 1")

        return await self._pool.call(work)

    async def purge(self, *, app: str, handler: str, older_than: float, limit: int) -> int:
        """Forget old done entries with their stories; see `ports.operator.Operator.purge`."""
        tag = await self._pool.call(
            lambda connection: connection.execute(_PURGE, app, handler, float(older_than), limit)
        )
        return int(tag.removeprefix("DELETE "))

    async def stats(self, *, app: str | None = None) -> list[Count]:
        """Counts by app, handler and state; see `ports.operator.Operator.stats`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_STATS, app))
        return [
            Count(row["app"], row["handler"], State(row["state"]), row["count"], row["oldest"], row["behind"])
            for row in rows
        ]

    async def declare(self, app: str, handlers: dict[str, str]) -> dict[str, str]:
        """Remember the handlers of an app; see `ports.operator.Operator.declare`."""

        async def work(connection: Connection) -> dict[str, str]:
            async with connection.transaction():
                # Two processes of one app that start at once take turns.
                await connection.execute("lock table consumer_handlers in share row exclusive mode")
                rows = await connection.fetch(
                    "delete from consumer_handlers where app = $1 returning name, mode", app
                )
                await connection.execute(
                    "insert into consumer_handlers (app, name, mode)"
                    " select $1, h.name, h.mode from unnest($2::text[], $3::text[]) as h(name, mode)",
                    app,
                    list(handlers),
                    list(handlers.values()),
                )
                return {row["name"]: row["mode"] for row in rows}

        return await self._pool.call(work)

    async def outgoing(
        self, *, app: str | None = None, parked: bool | None = None, limit: int | None = None
    ) -> list[Pending]:
        """Messages in the outbox; see `ports.operator.Operator.outgoing`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_OUTGOING, parked, limit, app))
        return [pending(row) for row in rows]

    async def backlog(self) -> Backlog:
        """Count the outbox; see `ports.operator.Operator.backlog`."""
        [row] = await self._pool.call(lambda connection: connection.fetch(_BACKLOG))
        return Backlog(*row)

    async def unpark(self, seqs: Sequence[int]) -> int:
        """Let parked messages go on; see `ports.operator.Operator.unpark`."""
        tag = await self._pool.call(lambda connection: connection.execute(_UNPARK, list(seqs)))
        return int(tag.removeprefix("UPDATE "))


def _identity(key: bytes) -> uuid.UUID | None:
    """Return the identity that a key of 32 hexadecimal digits (with or without a uuid's dashes) spells."""
    try:
        return uuid.UUID(key.decode("ascii"))
    except ValueError:
        return None
