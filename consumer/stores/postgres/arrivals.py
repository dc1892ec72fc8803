"""Entries that the store itself delivers: `ports.arrivals.Arrivals`."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Landed, Landing, Taken
from consumer.errors import StoreUnavailable
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.landing import land, land_new
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import taken

__all__ = ["READY", "PostgresArrivals"]

READY = """ready as (
    -- Per handler: with several of them in one condition the index would give no order, and all that is due be sorted.
    select d.* from unnest($2::text[]) as h(name) cross join lateral (
        select id, state, token, due_at, message, reason from consumer_inbox
        where app = $1 and handler = h.name and due_at <= now() and state in (1, 3) and message is not null
        order by due_at limit $3 for update skip locked
    ) d
    order by d.due_at limit $3
)"""
"""What is due: $1 the app, $2 the handlers, $3 how many. What others hold is skipped."""

_DUE = f"""
with me as (select id from consumer_workers where id = $4 and state = 'open' for key share), {READY},
claimed as (
    update consumer_inbox e
    set before = e.state, state = 2, token = nextval('consumer_token'), attempts = e.attempts + 1, worker = me.id,
        nonce = null, due_at = null
    from me, ready r where e.id = r.id
    returning e.id, e.tenant, e.handler, e.key, e.fingerprint, e.message, e.token, e.attempts, e.keyed, e.lane,
              r.due_at as was_due
)
select claimed.*, me.id as worker from me left join claimed on true order by was_due
"""


_IN_LANES = """
select handler, count(*) from consumer_inbox
where app = $1 and handler = any($2::text[]) and place is not null group by handler
"""


class PostgresArrivals:
    """`ports.arrivals.Arrivals`.

    Args:
        pool: for the store's own statements.
        app: this handle's.
    """

    def __init__(self, pool: Pool, app: str) -> None:
        self._pool = pool
        self._app = app

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        """Write entries durably; see `ports.arrivals.Arrivals.land`."""
        if not landings:
            return []

        born: set[bytes] = set()  # by an earlier try, too

        async def work(connection: Connection) -> list[Landed]:
            # Most are new, and in no lane: one statement, which is its own transaction.
            born.update(await land_new(connection, self._app, landings))
            if len(born) == len(landings):
                return [Landed.NEW] * len(landings)
            async with connection.transaction():
                return await land(connection, self._app, landings, born)

        return await self._pool.call(work)

    async def due(self, worker: int, handlers: Sequence[str], limit: int) -> list[Taken]:
        """Claim what is due; see `ports.arrivals.Arrivals.due`."""
        names = list(handlers)
        rows = await self._pool.call(
            lambda connection: connection.fetch(_DUE, self._app, names, limit, worker)
        )
        if not rows:
            raise StoreUnavailable(f"worker {worker} is closed: it may claim nothing any more")
        return [taken(row) for row in rows if row["id"] is not None]

    async def in_lanes(self, handlers: Sequence[str]) -> dict[str, int]:
        """Count what is in lanes; see `ports.arrivals.Arrivals.in_lanes`."""
        names = list(handlers)
        rows = await self._pool.call(lambda connection: connection.fetch(_IN_LANES, self._app, names))
        return {row[0]: row[1] for row in rows}
