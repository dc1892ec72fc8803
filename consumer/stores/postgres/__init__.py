"""The Postgres store: shared, durable, and with transactions that handlers may write in.

`inbox` claims and settles outside of a transaction, `group` inside of one; `claims`, `landing`, `settles` and `writes`
are the parts that they share. `connect` says what a connection must be like, `faults` what its errors mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.ports.store import Capabilities
from consumer.stores.postgres import schema
from consumer.stores.postgres.arrivals import PostgresArrivals
from consumer.stores.postgres.connect import PEOPLE_TIMEOUT, Connector
from consumer.stores.postgres.doubts import PostgresDoubts
from consumer.stores.postgres.faults import mapped
from consumer.stores.postgres.groups import PostgresGroups
from consumer.stores.postgres.inbox import PostgresInbox
from consumer.stores.postgres.operator import PostgresOperator
from consumer.stores.postgres.outbox import PostgresOutbox
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.workers import PostgresWorkers

__all__ = ["CAPABILITIES", "PostgresStore"]

CAPABILITIES = Capabilities(
    transactions=True, durable=True, shared=True, fifo_outbox=True, dialect="postgres", lanes=True
)

LANES = 4
"""Group connections: 1.7 to 2.2 times the rate of one, on two cores; more gain little."""

CALLS = 4
"""Connections for everything else; a call needs one for a statement or two."""

IDLE = 60.0
"""Seconds that a handler's transaction may idle on the server: twice the default time-out of a handler, so that the
worker ends a slow handler itself, and the server only one whose worker is stopped or cut off."""


class PostgresStore:
    """A handle on a database; `ports.store.Store`. It connects when it is asked for something, and not before.

    A handle belongs to the event loop that uses it first; another thread makes its own.

    Args:
        url: `postgresql://user:password@host:port/database`. Parameters of its query go to the driver (`sslmode=…`)
            or the server; `weak=yes` permits a server whose synchronous_commit is off.
        app: the app that this handle works for.
        lanes: groups at once, each on its own connection.
        idle: seconds; see `IDLE`. Also the longest statement of a handler.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, url: str, app: str, *, lanes: int = LANES, idle: float = IDLE) -> None:
        self._connector = Connector(url, app, idle)
        self._pool = Pool(self._connector.for_calls, CALLS)
        # A transaction that nobody ends is ended by the server when it has idled: only then is its outcome known.
        self.groups = PostgresGroups(self._connector, app, lanes, patience=idle + 15)
        self.inbox = PostgresInbox(self._pool, app)
        self.arrivals = PostgresArrivals(self._pool, app)
        self.workers = PostgresWorkers(self._pool, app)
        self.outbox = PostgresOutbox(self._pool, app)
        self._people = Pool(self._connector.for_people, 1, patience=PEOPLE_TIMEOUT + 15)
        self.operator = PostgresOperator(self._people)
        self.doubts = PostgresDoubts(self._pool, app)

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do; what it weakens is known when it is open."""
        return msgspec.structs.replace(CAPABILITIES, weakness=self._connector.weakness)

    async def open(self, *, check: bool = True) -> None:
        """Connect, and refuse what cannot work; see `ports.store.Store.open`."""
        connection = await self._pool.acquire()
        try:
            if check:
                with mapped():
                    await schema.check(connection, self._connector.shown)
        except BaseException:
            self._pool.discard(connection)
            raise
        self._pool.release(connection)
        self._connector.trusted = True

    async def close(self) -> None:
        """Let go of every connection. Never raises."""
        await self.groups.close()
        await self._pool.close()
        await self._people.close()

    async def raise_tokens(self, floor: int) -> int:
        """See that no token up to `floor` is handed out any more; see `stores.RaisesTokens`."""
        with mapped():
            connection = await self._connector.plain()
            try:
                return await schema.raise_tokens(connection, floor)
            finally:
                connection.terminate()

    async def migrate(self, own: Sequence[str] = (), *, dry_run: bool = False) -> list[str]:
        """Bring the tables to this version, then run `own`; see `ports.store.Store.migrate`."""
        with mapped():
            connection = await self._connector.plain()
            try:
                return await schema.migrate(connection, self._connector.shown, own, dry_run=dry_run)
            finally:
                connection.terminate()
