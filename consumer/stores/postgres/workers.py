"""Signs of life by the server's clock, and what becomes of the claims of a process that is gone."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg

from consumer.entry import State
from consumer.ports.workers import Adopted
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.lanes import leave
from consumer.stores.postgres.pool import Pool

__all__ = ["PostgresWorkers"]

_FORGOTTEN = """
delete from consumer_workers w where app = $1 and state <> 'open' and beat_at < now() - interval '7 days'
    and not exists (select from consumer_inbox e where e.worker = w.id)
"""
_OPEN = "insert into consumer_workers (app, about, ttl) values ($1, $2, $3) returning id"

_BEAT = """
update consumer_workers set beat_at = clock_timestamp(), beats = beats + 1 where id = $1 and state = 'open'
"""

# FOR UPDATE, not what an UPDATE takes by itself: a turn that claims for this worker holds the row FOR KEY SHARE, so
# the closing waits for that claim, or the claim sees that the worker is closed.
_CLOSE = """
with mine as (select id from consumer_workers where id = $1 and state = 'open' for update)
update consumer_workers w set state = 'closed' from mine where w.id = mine.id
"""

_OTHERS = "select id, beats from consumer_workers where app = $1 and state = 'open' and id <> $2"

# One that is locked is claiming at this moment, and so alive. While the server was down nobody could give a sign.
# From here on `beat_at` says when it ended: what ended a moment ago is not forgotten, however old its last beat.
_LAPSE = """
with gone as (
    select id from consumer_workers
    where app = $1 and state = 'open'
      and clock_timestamp() > greatest(beat_at, pg_postmaster_start_time()) + make_interval(secs => ttl)
    for update skip locked
)
update consumer_workers w set state = 'unclean', beat_at = clock_timestamp() from gone where w.id = gone.id
"""
_LAPSED = "select id from consumer_workers where app = $1 and state = 'unclean' and id >= $2"
_HOLDERS = """
select w.id from consumer_workers w where w.app = $1 and w.state = 'unclean'
    and exists (select from consumer_inbox e where e.worker = w.id)
order by w.id
"""

# Skipped are rows that somebody is writing to: a settle, or a handler's transaction that outlives its worker.
_ADOPT = """
with orphans as (
    select e.id, coalesce(p.seconds, 0) as patience from consumer_inbox e
    join consumer_workers w on w.id = e.worker
    left join unnest($3::text[], $4::float8[]) as p(handler, seconds) on p.handler = e.handler
    where e.worker is not null and e.state = 2 and w.app = $1 and w.state <> 'open'
    order by e.id limit $2 for update of e skip locked
), lapsed as (
    update consumer_inbox e
    set state = case when e.on_lapse = 0 then 5 when e.attempts >= e.budget then 6 else 3 end,
        due_at = case when e.on_lapse = 0 then now() + make_interval(secs => o.patience)
            when e.attempts >= e.budget then null else now() end,
        reason = 'its worker lapsed', worker = null, nonce = null, tries = 0
    from orphans o where e.id = o.id
    returning e.id, e.handler, e.key, e.state, e.token, e.attempts, e.reason, e.tenant, e.lane
), told as (
    insert into consumer_story (id, event, token, attempt, reason)
    select id, 'lapse', token, attempts, reason from lapsed
)
select id, handler, key, state, tenant, lane from lapsed
"""

_CLAIMS = "select id, token, handler from consumer_inbox where worker = $1 and state = 2"


class PostgresWorkers:
    """`ports.workers.Workers`.

    Args:
        pool: for the store's own statements.
        app: this handle's.
    """

    def __init__(self, pool: Pool, app: str) -> None:
        self._pool = pool
        self._app = app

    async def open(self, ttl: float, about: str) -> int:
        """Make a worker, and forget those that ended a week ago; see `ports.workers.Workers.open`."""

        async def work(connection: Connection) -> int:
            await connection.execute(_FORGOTTEN, self._app)
            return int(await connection.fetchval(_OPEN, self._app, about, ttl))

        return await self._pool.call(work)

    async def beat(self, worker: int) -> bool:
        """Renew the sign of life; see `ports.workers.Workers.beat`."""
        return await self._pool.call(lambda connection: connection.execute(_BEAT, worker)) == "UPDATE 1"

    async def close(self, worker: int) -> None:
        """End the worker cleanly; see `ports.workers.Workers.close`."""
        await self._pool.call(lambda connection: connection.execute(_CLOSE, worker))

    async def others(self, worker: int) -> dict[int, float]:
        """The open workers but this one; see `ports.workers.Workers.others`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_OTHERS, self._app, worker))
        return {row["id"]: float(row["beats"]) for row in rows}

    async def lapse(self) -> list[int]:
        """Close those that are silent; see `ports.workers.Workers.lapse`."""

        async def work(connection: Connection) -> list[int]:
            await connection.execute(_LAPSE, self._app)
            return [row["id"] for row in await connection.fetch(_HOLDERS, self._app)]

        return await self._pool.call(work)

    async def lapsed(self, since: int) -> set[int]:
        """Those that ended by a lapse; see `ports.workers.Workers.lapsed`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_LAPSED, self._app, since))
        return {row["id"] for row in rows}

    async def adopt(self, limit: int, patience: Mapping[str, float] | None = None) -> list[Adopted]:
        """Apply `on_lapse`; see `ports.workers.Workers.adopt`."""
        waits = patience or {}

        async def work(connection: Connection) -> list[asyncpg.Record]:
            async with connection.transaction():
                rows = await connection.fetch(_ADOPT, self._app, limit, list(waits), list(waits.values()))
                buried = {
                    row["id"].bytes: (row["handler"], row["tenant"], row["lane"])
                    for row in rows
                    if row["lane"] is not None and row["state"] == State.DEAD
                }
                if buried:
                    await leave(connection, self._app, buried)
                return rows

        rows = await self._pool.call(work)
        return [Adopted(row["id"].bytes, row["handler"], row["key"], State(row["state"])) for row in rows]

    async def claims(self, worker: int) -> list[tuple[bytes, int, str]]:
        """The running entries of a worker; see `ports.workers.Workers.claims`."""
        rows = await self._pool.call(lambda connection: connection.fetch(_CLAIMS, worker))
        return [(row["id"].bytes, row["token"], row["handler"]) for row in rows]
