"""What `path.reconcile` needs: `ports.operator.Doubts`."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import State, Taken
from consumer.ports.operator import Resolution
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.landing import land, lanes_of
from consumer.stores.postgres.lanes import leave, lock
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import clean, in_seconds, taken, uuids
from consumer.stores.postgres.writes import send, tell

__all__ = ["PostgresDoubts", "resolve"]

_ASK = """
with ready as (
    select id, due_at from consumer_inbox
    where app = $1 and handler = any($2::text[]) and due_at <= now()
      and state = 5 and message is not null and tries < $5
    order by due_at limit $3 for update skip locked
), asked as (
    update consumer_inbox e set due_at = now() + make_interval(secs => $4::float8), tries = e.tries + 1
    from ready r where e.id = r.id
    returning e.id, e.tenant, e.handler, e.key, e.fingerprint, e.message, e.token, e.attempts, e.keyed, e.lane,
              r.due_at as was_due
)
select * from asked order by was_due
"""

_RESOLVE = """
update consumer_inbox e
set state = $3::smallint, token = nextval('consumer_token'), nonce = null, worker = null,
    due_at = case when $3::smallint = 3 then now() end,
    reason = case when $3::smallint = 4 then null else $4::text end,
    result = case when $3::smallint = 4 then $5::bytea end,
    message = case when $3::smallint = 4 then null else e.message end
where e.id = $1 and e.token = $2 and e.state = 5
returning e.app, e.attempts, e.handler, e.tenant, e.lane
"""


class PostgresDoubts:
    """`ports.operator.Doubts`.

    Args:
        pool: for the store's own statements.
        app: this handle's.
    """

    def __init__(self, pool: Pool, app: str) -> None:
        self._pool = pool
        self._app = app

    async def ask(self, handlers: Sequence[str], limit: int, lease: float, tries: int) -> list[Taken]:
        """Take doubts to ask about; see `ports.operator.Doubts.ask`."""
        arguments = (self._app, list(handlers), limit, in_seconds(lease), tries)
        rows = await self._pool.call(lambda connection: connection.fetch(_ASK, *arguments))
        return [taken(row) for row in rows]

    async def resolve(self, resolution: Resolution) -> bool:
        """End a doubt; see `ports.operator.Doubts.resolve`."""
        return await resolve(self._pool, resolution)


async def resolve(pool: Pool, resolution: Resolution) -> bool:
    """End a doubt in one commit, as `ports.operator.Doubts.resolve` says; what it sends is the entry's app's."""

    async def work(connection: Connection) -> bool:
        async with connection.transaction():
            row = await connection.fetchrow(
                _RESOLVE,
                *uuids([resolution.identity]),
                resolution.token,
                int(resolution.to),
                clean(resolution.reason),
                resolution.result,
            )
            if row is None:
                return False
            # The line belongs to the attempt that is resolved: by its token a settlement that comes too late is known.
            line = (resolution.identity, "resolve", resolution.token, row["attempts"], resolution.reason)
            await tell(connection, [line])
            if row["lane"] is not None and resolution.to is not State.WAITING:
                lane = row["handler"], row["tenant"], row["lane"]
                await lock(connection, row["app"], {lane, *lanes_of(resolution.landings)})
                await leave(connection, row["app"], {resolution.identity: lane})
            if resolution.to is State.DONE:
                await send(connection, row["app"], resolution.outgoing)
                if resolution.landings:
                    await land(connection, row["app"], resolution.landings)
            return True

    return await pool.call(work)
