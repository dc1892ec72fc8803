"""Where groups come from, and how a transaction is asked for whose COMMIT got no reply."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg

from consumer.errors import StoreUnavailable
from consumer.ports.inbox import Group
from consumer.stores.postgres.connect import LOCK_TIMEOUT, Connection, Connector
from consumer.stores.postgres.faults import DRIVER, is_lost, one_line, store_fault
from consumer.stores.postgres.group import PostgresGroup, adopt
from consumer.stores.postgres.pool import Pool
from consumer.stores.postgres.rows import uuids

__all__ = ["PostgresGroups"]

# One round trip. RESET ALL: a handler's SET without LOCAL ends with its group.
_BEGIN = (
    "reset all; begin isolation level read committed read write; set local lock_timeout = '{lock}';"
    " insert into consumer_gate (id) values ({gate})"
)

_STATUS = "select pg_xact_status($1::text::xid8)"
_WITNESS = "select exists (select from consumer_inbox where id = $1 and token = $2 and state in (3, 4, 6))"

_PAUSES = (0.01, 0.05, 0.2, 0.5)
"""Seconds between questions; the last one is repeated."""


class PostgresGroups:
    """`ports.inbox.Groups`.

    Args:
        connector: makes connections.
        app: this handle's.
        lanes: how many groups there may be at once.
        patience: seconds for which an outcome is asked for. Longer than the server lets a transaction idle: by then the
            server has ended it.
    """

    def __init__(self, connector: Connector, app: str, lanes: int, patience: float) -> None:
        self._connector = connector
        self._app = app
        self._lanes = lanes
        self._patience = patience
        self._lock = "0"
        self._pool = Pool(self._connect, lanes)

    @property
    def lanes(self) -> int:
        """How many groups this handle may have open at once."""
        return self._lanes

    async def open(self) -> Group:
        """Begin a transaction and close its gate, in one round trip; see `ports.inbox.Groups.open`."""
        gate = secrets.randbits(62)
        for left in range(self._lanes, -1, -1):
            connection = await self._pool.acquire()
            try:
                await connection.execute(_BEGIN.format(lock=LOCK_TIMEOUT, gate=gate))
            except DRIVER as error:
                self._pool.discard(connection)
                # One that idled may have died unseen (the server started anew). Those that idle come first, and each
                # is tried once: after them a fresh one says whether anybody is there.
                if left and is_lost(error):
                    continue
                raise store_fault(error) from error
            except BaseException:
                self._pool.discard(connection)
                raise
            adopt(connection, connection.transaction())
            return PostgresGroup(
                connection, self._pool, self._app, gate=gate, lock=self._lock, ask=self._committed
            )
        raise AssertionError("unreachable: the last try returns or raises")

    async def close(self) -> None:
        """Cut every connection. Never raises."""
        await self._pool.close()

    async def _connect(self) -> Connection:
        connection, self._lock = await self._connector.for_groups()
        return connection

    async def _committed(self, xid: str, witness: tuple[bytes, int] | None) -> bool:
        """Ask, on new connections, until the server says whether transaction `xid` has committed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        trouble = "it is still in progress"
        for number in range(1_000_000):
            try:
                answer = await self._ask(xid, witness)
                if answer is not None:
                    return answer
            except (StoreUnavailable, *DRIVER) as error:
                trouble = one_line(error)
            if loop.time() > deadline:
                break
            await asyncio.sleep(_PAUSES[min(number, len(_PAUSES) - 1)])
        raise StoreUnavailable(f"PostgreSQL: it is not known whether a transaction has committed: {trouble}")

    async def _ask(self, xid: str, witness: tuple[bytes, int] | None) -> bool | None:
        connection = await self._connector.for_calls()
        try:
            try:
                status = await connection.fetchval(_STATUS, xid)
            except asyncpg.InvalidParameterValueError:
                return False  # from the server's future: a replica was promoted that had never heard of it
            if status != "committed":
                return False if status == "aborted" else None
            # A promoted replica may have given the same number to another transaction: the entry is the proof.
            return witness is None or bool(
                await connection.fetchval(_WITNESS, *uuids([witness[0]]), witness[1])
            )
        finally:
            connection.terminate()
