"""The tables, and how they come into being. Never change a step that was released: add one."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from consumer.errors import SchemaMismatch, SettingsError
from consumer.stores.postgres.connect import Connection
from consumer.stores.postgres.faults import one_line

__all__ = ["STEPS", "VERSION", "check", "migrate", "raise_tokens"]

_TABLES = """
create sequence consumer_token;

create table consumer_inbox (
    id uuid primary key,
    token bigint not null,
    created_at timestamptz not null,
    due_at timestamptz,
    worker bigint,
    nonce bigint,
    state smallint not null,
    before smallint not null default 0,
    on_lapse smallint not null,
    attempts smallint not null,
    budget smallint not null,
    tries smallint not null default 0,
    keyed boolean not null default true,
    fingerprint bytea not null,
    app text not null,
    tenant text not null,
    handler text not null,
    key bytea not null,
    reason text,
    message bytea,
    result bytea
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
comment on table consumer_inbox is 'one entry per app, tenant, handler and key; see consumer/entry.py';
create index consumer_inbox_due on consumer_inbox (app, handler, due_at) where due_at is not null;
create index consumer_inbox_created on consumer_inbox (created_at);
-- Only what runs has a worker: without this index every sweep for orphans would read the whole table. Its predicate
-- does not name the state, so that no plan for a settle can prefer it to the primary key.
create index consumer_inbox_running on consumer_inbox (worker) where worker is not null;

create table consumer_story (
    seq bigint generated always as identity primary key,
    id uuid not null,
    at timestamptz not null default clock_timestamp(),
    token bigint not null,
    attempt smallint not null,
    event text not null,
    reason text
);
create index consumer_story_id on consumer_story (id);

-- No cache: what one commit inserts after another has returned gets the higher number, on whatever connection.
create sequence consumer_outbox_seq cache 1;
create table consumer_outbox (
    seq bigint primary key default nextval('consumer_outbox_seq'),
    created_at timestamptz not null default clock_timestamp(),
    due_at timestamptz,
    shard smallint not null,
    id uuid not null,
    app text not null,
    topic text not null,
    ordering_key bytea,
    headers bytea not null,
    value bytea not null,
    parked text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index consumer_outbox_held on consumer_outbox (app, topic, ordering_key)
    where parked is not null or due_at is not null;

create table consumer_shards (
    app text not null,
    shard smallint not null,
    worker bigint,
    primary key (app, shard)
);

create table consumer_workers (
    id bigint generated always as identity primary key,
    app text not null,
    about text not null,
    opened_at timestamptz not null default clock_timestamp(),
    beat_at timestamptz not null default clock_timestamp(),
    beats bigint not null default 0,
    ttl double precision not null,
    state text not null default 'open' check (state in ('open', 'closed', 'unclean'))
) with (fillfactor = 50);

create table consumer_handlers (
    app text not null,
    name text not null,
    mode text not null,
    declared_at timestamptz not null default now(),
    primary key (app, name)
);
"""

_GATE = """
-- Nothing may ever be in here: the gate's foreign key points at it, so that a group whose gate row is still there
-- cannot be committed by anybody.
create table consumer_nowhere (id integer primary key check (false));
-- Unlogged: a gate row never outlives its transaction, so there is nothing to recover.
create unlogged table consumer_gate (
    id bigint primary key,
    nowhere integer not null default 1 references consumer_nowhere deferrable initially deferred,
    xid xid8 not null default pg_current_xact_id()
);
create function consumer_seal(gate bigint) returns xid8 language plpgsql as $$
begin
    delete from consumer_gate where id = gate and xid = pg_current_xact_id();
    if not found then
        raise exception 'this is not the transaction that claimed' using errcode = 'object_not_in_prerequisite_state';
    end if;
    set constraints all immediate;
    return pg_current_xact_id();
end $$;
"""

_LANES = """
alter table consumer_inbox add column lane bytea, add column place bigint, add column not_before timestamptz;
-- Only what is in a lane and unfinished. Its predicate does not name the state, which every settle changes.
create index consumer_inbox_lanes on consumer_inbox (app, handler, tenant, lane, place) where place is not null;
"""

_RELAYS = """
-- Which workers have taken outgoing messages: the shards of the outbox are shared out among those that are open.
create table consumer_relays (
    app text not null,
    worker bigint not null,
    primary key (app, worker)
);
"""

_INDEXES = """
-- Every handler has its own retention: by the age alone, whoever forgets early read through all that others still keep,
-- once a minute, and the sweep waited for it. Dropped first: that takes the lock that stops everybody, and a weaker one
-- that had to become it later would meet those who read and are about to write.
drop index consumer_inbox_created;
create index consumer_inbox_age on consumer_inbox (app, handler, created_at);
-- Doubts are few, and what is due before them may be many. No settle looks for this state.
create index consumer_inbox_doubts on consumer_inbox (app, handler, due_at) where state = 5 and due_at is not null;
"""

STEPS: tuple[tuple[str, str], ...] = (
    ("0001 tables", _TABLES),
    ("0002 gate", _GATE),
    ("0003 lanes", _LANES),
    ("0004 relays", _RELAYS),
    ("0005 indexes for purge and doubts", _INDEXES),
)
"""Names and statements; a schema's version is the number of steps done."""

VERSION = len(STEPS)

_LOCK = 0x636F6E73756D6572
"""Two migrations at once take turns on this advisory lock (the bytes spell `consumer`)."""


async def version(connection: Connection) -> int:
    """Return how many steps were done here; 0 where there are no tables."""
    if await connection.fetchval("select to_regclass('consumer_schema')") is None:
        return 0
    return int(await connection.fetchval("select coalesce(max(version), 0) from consumer_schema"))


async def check(connection: Connection, shown: str) -> None:
    """Refuse tables that this version of the package cannot work with.

    Args:
        connection: any.
        shown: the URL as it may be shown.

    Raises:
        SchemaMismatch: they are not there, older or newer.
    """
    found = await version(connection)
    if found > VERSION:
        raise SchemaMismatch(_newer(shown, found))
    if found < VERSION:
        what = "has no tables of ours" if found == 0 else f"has schema version {found}"
        raise SchemaMismatch(
            f"store={shown!r} {what}, and this package needs version {VERSION}; run `consumer migrate`"
        )


async def raise_tokens(connection: Connection, floor: int) -> int:
    """See that no token up to `floor` is handed out any more; see `stores.RaisesTokens`."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        return int(
            await connection.fetchval(
                "select case when last_value < $1 then setval('consumer_token', $1) else last_value end"
                " from consumer_token",
                floor,
            )
        )


async def migrate(connection: Connection, shown: str, own: Sequence[str], *, dry_run: bool) -> list[str]:
    """Do the steps that are missing, then the application's own statements, all in one transaction.

    Args:
        connection: one without limits on locks and statements.
        shown: the URL as it may be shown.
        own: the application's statements; none of them may refuse to run in a transaction.
        dry_run: change nothing.

    Returns:
        The names of the steps done, or to do.

    Raises:
        SchemaMismatch: the tables are newer than this package.
        SettingsError: a statement of the application fails; the text quotes its beginning.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        done = await version(connection)
        if done > VERSION:
            raise SchemaMismatch(_newer(shown, done))
        missing = STEPS[done:]
        if dry_run:
            return [name for name, _ in missing]
        if done == 0:
            await connection.execute(
                "create table consumer_schema (version integer primary key, step text not null,"
                " done_at timestamptz not null default now())"
            )
        for number, (name, sql) in enumerate(missing, done + 1):
            await connection.execute(sql)
            await connection.execute(
                "insert into consumer_schema (version, step) values ($1, $2)", number, name
            )
        for statement in own:
            await _run_own(connection, statement)
    return [name for name, _ in missing]


async def _run_own(connection: Connection, statement: str) -> None:
    try:
        await connection.execute(statement)
    except asyncpg.PostgresError as error:
        begin = " ".join(statement.split())[:80]
        raise SettingsError(f"the application's statement {begin!r}: {one_line(error)}") from error


def _newer(shown: str, found: int) -> str:
    return (
        f"store={shown!r} has schema version {found}, which is newer than this package's ({VERSION}):"
        " run the version of the package that made it (`consumer migrate` of an older one never goes back)"
    )
