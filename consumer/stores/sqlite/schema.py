"""The framework's tables, and the steps that lead to them.

A step is never changed once it was released; a change is another step. All steps of one call share a
transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from consumer.errors import SchemaMismatch, SettingsError
from consumer.stores.sqlite.connect import Link

__all__ = ["STEPS", "VERSION", "check", "migrate", "missing", "version_of"]

STEPS: Sequence[tuple[str, tuple[str, ...]]] = (
    (
        "0001 inbox, story, outbox, workers, handlers",
        (
            # An ordinary table with the identity as a unique key, not WITHOUT ROWID: 1.7 times the rate of
            # claims and settles, and `seq` keeps the order of arrival among entries that are due at one
            # moment.
            """create table consumer_inbox (
                seq integer primary key,
                id blob not null unique,
                token integer not null,
                state integer not null,
                before integer not null default 0,
                on_lapse integer not null,
                attempts integer not null,
                budget integer not null,
                tries integer not null default 0,
                keyed integer not null default 1,
                worker integer,
                nonce integer,
                created_at real not null,
                due_at real,
                app text not null,
                tenant text not null,
                handler text not null,
                key blob not null,
                fingerprint blob not null,
                reason text,
                message blob,
                result blob
            )""",
            # What nobody can run without its bytes is not due.
            """create index consumer_inbox_due on consumer_inbox (app, handler, due_at)
                where due_at is not null and message is not null""",
            "create index consumer_inbox_age on consumer_inbox (app, handler, created_at)",
            # As long as the slots of all workers, whatever the inbox holds.
            "create index consumer_inbox_running on consumer_inbox (worker) where worker is not null",
            """create table consumer_story (
                seq integer primary key,
                entry blob not null,
                at real not null,
                event text not null,
                token integer not null,
                attempt integer not null,
                reason text
            )""",
            "create index consumer_story_entry on consumer_story (entry)",
            # AUTOINCREMENT: without it the number of a message that was sent and forgotten is given out
            # again.
            """create table consumer_outbox (
                seq integer primary key autoincrement,
                id blob not null,
                app text not null,
                topic text not null,
                ordering_key text,
                headers blob not null,
                value blob not null,
                due_at real,
                created_at real not null,
                parked text
            )""",
            "create index consumer_outbox_parked on consumer_outbox (app) where parked is not null",
            "create index consumer_outbox_due on consumer_outbox (app, due_at) where due_at is not null",
            # Who publishes the messages of an app: one file has one disk, a second relay beside it gains
            # nothing.
            "create table consumer_relay (app text primary key not null, worker integer not null)",
            """create table consumer_workers (
                id integer primary key autoincrement,
                app text not null,
                about text not null,
                opened_at real not null,
                state text not null check (state in ('open', 'closed', 'unclean'))
            )""",
            """create table consumer_handlers (
                app text not null,
                name text not null,
                mode text not null,
                primary key (app, name)
            )""",
            "create table consumer_tokens (last integer not null)",
            "insert into consumer_tokens (last) values (0)",
            # The gate: a row of consumer_gate points nowhere, so a transaction that holds one cannot be
            # committed.
            "create table consumer_nowhere (id integer primary key, check (id is null))",
            """create table consumer_gate (
                id integer primary key,
                nowhere integer not null references consumer_nowhere (id) deferrable initially deferred
            )""",
        ),
    ),
    (
        "0002 lanes",
        (
            "alter table consumer_inbox add column lane blob",
            "alter table consumer_inbox add column place integer",
            "alter table consumer_inbox add column not_before real",
            # Only what is in a lane and unfinished.
            """create index consumer_inbox_lanes on consumer_inbox (app, handler, tenant, lane, place)
                where place is not null""",
        ),
    ),
)
"""(name, statements), in order; the version of a database is the number of steps that it has seen."""

VERSION = len(STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return how many steps this database has seen; 0 where it has none of our tables."""
    found = connection.execute(
        "select 1 from sqlite_master where type = 'table' and name = 'consumer_schema'"
    )
    if found.fetchone() is None:
        return 0
    row = connection.execute("select max(version) from consumer_schema").fetchone()
    return int(row[0] or 0)


def check(connection: sqlite3.Connection, shown: str) -> None:
    """Refuse tables that this version cannot work with.

    Args:
        connection: inside a transaction.
        shown: the file, for the text.

    Raises:
        SchemaMismatch: the tables are older or newer, or not there.
    """
    version = version_of(connection)
    if version > VERSION:
        raise SchemaMismatch(_newer(shown, version))
    if version == 0:
        raise SchemaMismatch(f"{shown}: the tables are not there; run `consumer migrate`")
    if version < VERSION:
        raise SchemaMismatch(
            f"{shown}: the tables are of version {version}, this package needs {VERSION};"
            " run `consumer migrate`"
        )


async def missing(link: Link) -> list[str]:
    """Return the names of the steps that a file lacks, and change nothing: where it is not there it is not made.

    Raises:
        SchemaMismatch: the tables are newer than this package.
        SettingsError: the file cannot be used.
    """
    link.place.inspect()
    version = await link.read(version_of) if link.place.exists() else 0
    if version > VERSION:
        raise SchemaMismatch(_newer(link.place.shown, version))
    return [name for name, _ in STEPS[version:]]


def raise_tokens(connection: sqlite3.Connection, floor: int) -> int:
    """See that no token up to `floor` is handed out any more; see `stores.RaisesTokens`."""
    connection.execute("update consumer_tokens set last = max(last, ?)", (floor,))
    [[last]] = connection.execute("select last from consumer_tokens")
    return int(last)


async def migrate(link: Link, own: Sequence[str]) -> list[str]:
    """Bring the tables to `VERSION`, then run `own`; all of it in one transaction of the only writer.

    Args:
        link: the connection to do it on.
        own: the application's statements.

    Returns:
        The names of the steps done.

    Raises:
        SchemaMismatch: the tables are newer than this package.
        SettingsError: the file cannot be used, or one of `own` is refused by SQLite.
    """
    link.place.inspect()
    await link.run(link.connection, create=True)
    return await link.write(_migrate, link.place.shown, own)


def _migrate(connection: sqlite3.Connection, shown: str, own: Sequence[str]) -> list[str]:
    version = version_of(connection)
    if version > VERSION:
        raise SchemaMismatch(_newer(shown, version))
    if version == 0:
        connection.execute("create table if not exists consumer_schema (version integer primary key)")
    done = []
    for number, (name, statements) in enumerate(STEPS[version:], version + 1):
        for statement in statements:
            connection.execute(statement)
        connection.execute("insert into consumer_schema (version) values (?)", (number,))
        done.append(name)
    for statement in own:
        try:
            connection.execute(statement)
        except (sqlite3.Error, sqlite3.Warning) as error:
            text = " ".join(statement.split())
            raise SettingsError(
                f"{shown}: the application's statement {text[:80]!r} fails: {error}"
            ) from error
    return done


def _newer(shown: str, version: int) -> str:
    return (
        f"{shown}: the tables are of version {version}, this package knows {VERSION};"
        " upgrade the package (older ones must not write here)"
    )
