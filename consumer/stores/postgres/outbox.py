"""Outgoing messages on their way to a sink: `ports.outbox.Outbox`. What is not sent is there; there is no cursor."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.ports.outbox import Pending
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import PENDING_COLUMNS, clean, pending
from consumer.stores.postgres.writes import SHARDS

__all__ = ["PostgresOutbox"]

_MAKE = f"""
insert into consumer_shards (app, shard) select $1, n from generate_series(0, {SHARDS - 1}) n on conflict do nothing
"""

_JOIN = """
with gone as (
    delete from consumer_relays r where r.app = $1
      and not exists (select from consumer_workers w where w.id = r.worker and w.state = 'open')
)
insert into consumer_relays (app, worker) select $1, id from consumer_workers where id = $2 and state = 'open'
on conflict do nothing
"""

# Whoever has more than its share gives up the rest, and reads only what it keeps: nobody can take a shard before that is
# committed. Compare and set: of two that want the same free shard one finds it locked, and asks again later.
_TAKE = f"""
with me as (select id from consumer_workers where id = $2 and state = 'open'),
share as (
    select ceil({SHARDS}.0 / greatest(count(*), 1))::int as size from consumer_relays r
    join consumer_workers w on w.id = r.worker and w.state = 'open' where r.app = $1
), held as (
    select s.shard, row_number() over (order by s.shard) <= share.size as kept
    from consumer_shards s, share where s.app = $1 and s.worker = $2 and exists (select from me)
), given_up as (
    update consumer_shards s set worker = null from held
    where s.app = $1 and s.shard = held.shard and s.worker = $2 and not held.kept
), free as (
    select s.shard from consumer_shards s
    where s.app = $1 and s.worker is distinct from $2
      and not exists (select from consumer_workers w where w.id = s.worker and w.state = 'open')
    order by s.shard limit (select greatest(share.size - (select count(*) from held), 0) from share)
    for update skip locked
), won as (
    update consumer_shards s set worker = me.id from me, free
    where s.app = $1 and s.shard = free.shard
    returning s.shard
), mine as (
    select shard from held where kept union all select shard from won
)
select {PENDING_COLUMNS} from consumer_outbox o
where o.app = $1 and o.shard = any (array(select shard from mine))
  and o.parked is null and (o.due_at is null or o.due_at <= now())
  and (o.ordering_key is null or not exists (
      select from consumer_outbox held
      where held.app = o.app and held.topic = o.topic and held.ordering_key = o.ordering_key and held.seq < o.seq
        and (held.parked is not null or held.due_at is not null)
        and (held.parked is not null or held.due_at > now())
  ))
order by o.seq limit $3
"""

_SENT = "delete from consumer_outbox where seq = any($1::bigint[])"
_PARK = """
update consumer_outbox o set parked = p.reason from unnest($1::bigint[], $2::text[]) as p(seq, reason)
where o.seq = p.seq
"""


class PostgresOutbox:
    """`ports.outbox.Outbox`.

    Args:
        pool: for the store's own statements.
        app: this handle's.
    """

    def __init__(self, pool: Pool, app: str) -> None:
        self._pool = pool
        self._app = app
        self._joined: int | None = None

    async def take(self, worker: int, limit: int) -> list[Pending]:
        """The oldest unsent messages of the worker's shards; see `ports.outbox.Outbox.take`."""

        async def work(connection: Connection) -> list[Pending]:
            if self._joined != worker:
                await connection.execute(_MAKE, self._app)
                await connection.execute(_JOIN, self._app, worker)
                self._joined = worker
            return [pending(row) for row in await connection.fetch(_TAKE, self._app, worker, limit)]

        return await self._pool.call(work)

    async def sent(self, seqs: Sequence[int]) -> None:
        """Forget these; see `ports.outbox.Outbox.sent`."""
        if seqs:
            await self._pool.call(lambda connection: connection.execute(_SENT, list(seqs)))

    async def park(self, parked: Sequence[tuple[int, str]]) -> None:
        """Set messages aside; see `ports.outbox.Outbox.park`."""
        if parked:
            seqs, reasons = [seq for seq, _ in parked], [clean(reason) for _, reason in parked]
            await self._pool.call(lambda connection: connection.execute(_PARK, seqs, reasons))
