"""What several verbs write inside their transaction: lines of stories, and outgoing messages."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from consumer.message import Outgoing
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.rows import UUID, clean, headers_of, in_seconds, uuids

__all__ = ["SHARDS", "Line", "outgoing_arrays", "send", "tell"]

SHARDS = 8
"""How many relays can share an app's outbox. Stored with every message: never change it."""

Line = tuple[bytes, str, int, int, str | None]
"""A line of a story: identity, event, token, attempt, reason."""


async def tell(connection: Connection, lines: Sequence[Line]) -> None:
    """Add lines to the stories of entries."""
    if lines:
        await connection.execute(
            "insert into consumer_story (id, event, token, attempt, reason)"
            " select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::smallint[], $5::text[])",
            uuids(line[0] for line in lines),
            *([line[column] for line in lines] for column in (1, 2, 3)),
            [clean(line[4]) for line in lines],
        )


def outgoing_arrays(outgoing: Sequence[Outgoing]) -> tuple[list[object], ...]:
    """Return the columns of outgoing messages: id, shard, topic, ordering key, headers, value, delay."""
    keys = [
        None if one.ordering_key is None else one.ordering_key.encode("utf-8", "surrogatepass")
        for one in outgoing
    ]
    return (
        [UUID(one.id) for one in outgoing],
        [_shard(one, key) for one, key in zip(outgoing, keys, strict=True)],
        [clean(one.topic) for one in outgoing],
        list(keys),
        [headers_of(one) for one in outgoing],
        [one.value for one in outgoing],
        [in_seconds(one.delay) or None for one in outgoing],
    )


def _shard(outgoing: Outgoing, key: bytes | None) -> int:
    """One shard holds all of one (topic, ordering key); what has no order is spread."""
    lane = outgoing.id if key is None else outgoing.topic.encode("utf-8", "surrogatepass") + b"\0" + key
    return zlib.crc32(lane) % SHARDS


_SEND = """
insert into consumer_outbox (app, id, shard, topic, ordering_key, headers, value, due_at)
select $1, o.id, o.shard, o.topic, o.ordering_key, o.headers, o.value,
       clock_timestamp() + make_interval(secs => o.delay)
from unnest($2::uuid[], $3::smallint[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::float8[])
    with ordinality as o(id, shard, topic, ordering_key, headers, value, delay, place)
order by o.place
"""


async def send(connection: Connection, app: str, outgoing: Sequence[Outgoing]) -> None:
    """Insert outgoing messages; their numbers rise in this order."""
    if outgoing:
        await connection.execute(_SEND, app, *outgoing_arrays(outgoing))
