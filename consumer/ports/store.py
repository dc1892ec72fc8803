"""A store: all its ports together, as `stores.open_store` hands them out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from consumer.ports.arrivals import Arrivals
from consumer.ports.inbox import Groups, Inbox
from consumer.ports.operator import Doubts, Operator
from consumer.ports.outbox import Outbox
from consumer.ports.workers import Workers

__all__ = ["Capabilities", "Store"]


class Capabilities(msgspec.Struct, frozen=True):
    """What a store can do; the contract suite leaves out exactly what a flag denies.

    Attributes:
        transactions: handlers may write in the transaction of their entry (`groups` is not `None`).
        durable: an acknowledged write survives the end of the process.
        shared: several processes may use it at once.
        fifo_outbox: the outbox keeps order within an ordering key.
        dialect: which of `App.schema`'s statements are this store's: `postgres`, `sqlite` or empty.
        weakness: what this store takes away from the promise, for people; empty where nothing.
        lanes: it keeps the order of `ordered=True` (`ports.arrivals`).
    """

    transactions: bool
    durable: bool
    shared: bool
    fifo_outbox: bool
    dialect: str = ""
    weakness: str = ""
    lanes: bool = False


class Store(Protocol):
    """One opened store of one app."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    @property
    def inbox(self) -> Inbox:
        """Claims and settles."""
        ...

    @property
    def groups(self) -> Groups | None:
        """Transactions for handlers; `None` where the store has none."""
        ...

    @property
    def arrivals(self) -> Arrivals:
        """Landing, and what is due."""
        ...

    @property
    def workers(self) -> Workers:
        """Signs of life."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Outgoing messages."""
        ...

    @property
    def operator(self) -> Operator:
        """What people ask."""
        ...

    @property
    def doubts(self) -> Doubts:
        """What `reconcile` asks."""
        ...

    async def open(self, *, check: bool = True) -> None:
        """Connect, and (with `check`) refuse a schema or a server that this version cannot work with.

        Raises:
            SchemaMismatch: the tables are older or newer, or not there; the text says `consumer migrate`.
            SettingsError: the server weakens the promise (a read-only replica), or the URL is wrong.
            StoreUnavailable: nobody answers.
        """
        ...

    async def close(self) -> None:
        """Let go of every connection. Never raises."""
        ...

    async def migrate(self, own: Sequence[str] = (), *, dry_run: bool = False) -> list[str]:
        """Bring the framework's tables to this version, then run `own`; return the names of the steps done (or to do).

        Safe to repeat, and to run twice at once.

        Args:
            own: the application's statements in this dialect, each safe to repeat (`create table if not exists`).
            dry_run: change nothing.
        """
        ...
