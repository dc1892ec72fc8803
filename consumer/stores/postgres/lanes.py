"""Lanes: entries of one ordering key that start one at a time, in the order in which they were landed.

`place` is set while an entry is in its lane and unfinished; the lowest one is the head. What stands behind it has no due
time, so neither `due` nor a claim has to look at lanes, and thousands of parked ones cost them nothing. Who ends an entry
gives the next one its due time, in the same commit.

Everything that lets an entry in or out holds the lane's advisory lock until its commit. So places become visible in their
order, and nobody steps behind a head that has just gone without being seen by it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence

from consumer.stores.postgres.connect import LOCK_TIMEOUT, Connection
from consumer.stores.postgres.rows import uuids

__all__ = ["HEAD", "Lane", "leave", "lock", "places", "promote"]

Lane = tuple[str, str, bytes]
"""Handler, tenant and ordering key; the app is the handle's."""

_LOCKS = 256
"""How many locks all lanes share: a server has room for some thousands, and there may be more lanes."""

_BASE = 0x6C616E65_00000000
"""The first of their numbers (the bytes spell `lane`)."""

_PATIENCE = "2s"
"""How long a lock is waited for: whoever holds it is about to commit."""

_LOCK = """
select set_config('lock_timeout', $2, true)
union all select pg_advisory_xact_lock(k)::text from unnest($1::bigint[]) k
union all select set_config('lock_timeout', $3, true)
"""

HEAD = """(
    select h.id from consumer_inbox h
    where h.app = {of}.app and h.handler = {of}.handler and h.tenant = {of}.tenant and h.lane = {of}.lane
        and h.place is not null
    order by h.place limit 1
)"""
"""The head of the lane of a row, as SQL."""

_PROMOTE = f"""
update consumer_inbox e set due_at = coalesce(e.not_before, now()), not_before = null
from (
    select {HEAD.format(of="l")} as id
    from (select $1::text as app, u.* from unnest($2::text[], $3::text[], $4::bytea[]) as u(handler, tenant, lane)) l
) head
where e.id = head.id and e.state in (1, 3) and e.due_at is null
"""

_LEAVE = "update consumer_inbox set place = null, not_before = null where id = any($1::uuid[]) and place is not null"

_PLACES = "select nextval('consumer_token') from generate_series(1, $1::int)"


async def lock(connection: Connection, app: str, lanes: Collection[Lane]) -> None:
    """Be the only one, until the transaction ends, who lets entries in or out of these lanes.

    Args:
        connection: in a transaction. Its lock time-out is that of the store's own statements afterwards.
        app: whose lanes.
        lanes: may repeat; none: nothing is done.
    """
    if not lanes:
        return
    numbers = sorted(
        {_BASE + zlib.crc32(repr((app, *lane)).encode("utf-8", "replace")) % _LOCKS for lane in lanes}
    )
    await connection.execute(_LOCK, numbers, _PATIENCE, LOCK_TIMEOUT)


async def places(connection: Connection, count: int) -> list[int]:
    """Return places at the end of lanes, in ascending order; the caller holds the lanes' locks.

    They are taken from the sequence of the tokens, which never goes back.
    """
    return [row[0] for row in await connection.fetch(_PLACES, count)]


async def promote(connection: Connection, app: str, lanes: Collection[Lane]) -> None:
    """Give the heads of these lanes, which wait for nobody any more, their due time."""
    if not lanes:
        return
    distinct = list(dict.fromkeys(lanes))
    columns: Sequence[list[object]] = [[lane[n] for lane in distinct] for n in range(3)]
    await connection.execute(_PROMOTE, app, *columns)


async def leave(connection: Connection, app: str, gone: dict[bytes, Lane]) -> None:
    """Take entries that are done or dead out of their lanes, and let the next ones start.

    Args:
        connection: in the transaction that ends them.
        app: whose.
        gone: the lanes of the entries, by identity.
    """
    lanes = set(gone.values())
    await lock(connection, app, lanes)
    await connection.execute(_LEAVE, uuids(gone))
    await promote(connection, app, lanes)
