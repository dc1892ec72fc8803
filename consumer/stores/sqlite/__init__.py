"""The SQLite store: no server, one host, several processes; one of them writes at a time.

Three connections, each in a thread of its own and made when it is first used: one for the verbs that change
something, one for those that only read (they wait for no writer), and one for the group. A verb is one hop to
its thread and one transaction there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from consumer.errors import SchemaMismatch
from consumer.ports.store import Capabilities
from consumer.stores.sqlite import schema
from consumer.stores.sqlite.arrivals import SqliteArrivals
from consumer.stores.sqlite.connect import Link
from consumer.stores.sqlite.doubts import SqliteDoubts
from consumer.stores.sqlite.group import SqliteGroups
from consumer.stores.sqlite.inbox import SqliteInbox
from consumer.stores.sqlite.operator import SqliteOperator
from consumer.stores.sqlite.outbox import SqliteOutbox
from consumer.stores.sqlite.place import Place
from consumer.stores.sqlite.workers import SqliteWorkers

__all__ = ["CAPABILITIES", "SqliteStore"]

CAPABILITIES = Capabilities(
    transactions=True, durable=True, shared=True, fifo_outbox=True, dialect="sqlite", lanes=True
)

_PATIENCE = 30.0
"""Seconds to wait for the other writers of the file: longer than any transactional handler may run."""


class SqliteStore:
    """A handle on an SQLite file; `ports.store.Store`. Used by one event loop, in the process that opened it.

    Args:
        path: the database file; a relative one is taken from the present directory.
        app: the app that this handle works for.
        patience: seconds to wait for the file's other writers; after that the store is unavailable.

    Raises:
        SettingsError: `path` is no file's.
    """

    def __init__(self, path: str, app: str, *, patience: float = _PATIENCE) -> None:
        self._place = Place(path)
        self._writes = Link(self._place, "sqlite-writes", patience)
        self._reads = Link(self._place, "sqlite-reads", patience, reads_only=True)
        self._grouped = Link(self._place, "sqlite-group", patience)
        self.capabilities = CAPABILITIES
        self.inbox = SqliteInbox(self._writes, self._reads, app)
        self.groups = SqliteGroups(self._grouped, app)
        self.arrivals = SqliteArrivals(self._writes, self._reads, app)
        self.workers = SqliteWorkers(self._writes, self._reads, self._place, app)
        self.outbox = SqliteOutbox(self._writes, self._reads, app)
        self.operator = SqliteOperator(self._writes, self._reads)
        self.doubts = SqliteDoubts(self._writes, self._reads, app)

    async def open(self, *, check: bool = True) -> None:
        """Look at the file, and (with `check`) at its tables; see `ports.store.Store.open`.

        Raises:
            SchemaMismatch: the tables are older or newer, or not there; the text says `consumer migrate`.
            SettingsError: the file or its directory cannot be written, is no database, or lies on a network.
            StoreUnavailable: the file cannot be opened now.
        """
        self._place.inspect()
        if not check:
            return
        if not self._place.exists():
            raise SchemaMismatch(f"{self._place.shown}: the file does not exist; run `consumer migrate`")
        await self._reads.read(schema.check, self._place.shown)

    async def close(self) -> None:
        """Let go of every connection and lock; what is open is undone. Never raises.

        A worker that was not closed before counts as dead from now on.
        """
        await asyncio.gather(self._grouped.close(), self._writes.close(), self._reads.close())
        self.workers.drop_all()

    async def raise_tokens(self, floor: int) -> int:
        """See that no token up to `floor` is handed out any more; see `stores.RaisesTokens`."""
        return await self._writes.write(schema.raise_tokens, floor)

    async def migrate(self, own: Sequence[str] = (), *, dry_run: bool = False) -> list[str]:
        """Bring the tables to this version, then run `own`; see `ports.store.Store.migrate`.

        Makes the file where there is none (not with `dry_run`).

        Raises:
            SchemaMismatch: the tables are newer than this package.
            SettingsError: the file cannot be written, or SQLite refuses one of `own`.
        """
        if dry_run:
            return await schema.missing(self._reads)
        return await schema.migrate(self._writes, own)
