"""One connection: what is asked of the server for it, and what the server is asked before it is trusted."""

from __future__ import annotations

import socket
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import msgspec

from consumer.errors import SettingsError, StoreUnavailable
from consumer.settings import redacted
from consumer.stores.postgres.faults import DRIVER, one_line, settings_fault
from consumer.tls import unreadable

__all__ = ["LOCK_TIMEOUT", "OLDEST", "Connection", "Connector"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OLDEST = 130000
"""PostgreSQL 13: the first with `pg_current_xact_id`."""

LOCK_TIMEOUT = "100ms"
"""Nobody waits longer on another's uncommitted key: `Running` is an answer."""

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection, TLS and log-in included."""

STATEMENT_TIMEOUT = 30.0
"""Seconds for a statement of our own: each changes at most a batch, by an index."""

PEOPLE_TIMEOUT = 600.0
"""Seconds for what people ask (a key without its handler, counts of everything): it may read the whole table."""

_CHECK = "client_connection_check_interval"
CHECK_INTERVAL = 2000
"""Milliseconds after which a running statement notices that its client is gone (PostgreSQL 14 and newer)."""

_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""A vanished client is noticed in 25 s where nothing is sent: below every other limit here."""

_USER_TIMEOUT = 30_000
"""Milliseconds for which what was sent may stay unacknowledged: the other end of the same cable."""

_FILES = ("sslrootcert", "sslcert", "sslkey")
"""What a URL may name for TLS; as libpq has it."""


class _Server(msgspec.Struct, frozen=True):
    """What a connection says of its server."""

    version: int
    recovery: bool
    read_only: bool
    synchronous: str
    fsync: str
    pages: str
    idle: str
    statement: str
    lock: str


class Connector:
    """Makes connections that have their limits, and refuses servers that weaken the promise.

    Args:
        url: `postgresql://…`; `weak=yes` in its query is ours, everything else in it goes to the driver.
        app: shown in `pg_stat_activity`.
        idle: seconds that a transaction may idle, and that a statement of a handler may take.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, url: str, app: str, idle: float) -> None:
        self.shown = redacted(url)
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query, keep_blank_values=True)
            _check_ports(parts.netloc)
        except ValueError as error:
            raise SettingsError(f"store={self.shown!r}: {error}") from None
        self._weak = ("weak", "yes") in query
        # asyncpg's error names no file, and reads like a server's socket that is not there.
        self._files = {name: path for name, path in query if name in _FILES}
        kept = urlencode([pair for pair in query if pair[0] != "weak"])
        self._url = urlunsplit(parts._replace(query=kept))
        self._app = app
        self._idle = idle
        self._checks = True
        self.trusted = False
        self.weakness = ""

    async def for_calls(self) -> Connection:
        """Return a connection for the store's own statements: each of them a transaction of its own.

        Raises:
            SettingsError: the settings or the server can never work (before `trusted`).
            StoreUnavailable: nobody answers, or (after `trusted`) not as before.
        """
        connection, _ = await self._connect(
            {
                **self._limits(STATEMENT_TIMEOUT),
                "lock_timeout": LOCK_TIMEOUT,
                # Joins with unnest() were re-planned to 5 times the cost on a table that looked small: all of its
                # index was read for a few keys. Without these there is one plan, by the primary key, whatever the
                # statistics say; so it is made once, for planning each time took a quarter of a turn.
                "enable_seqscan": "off",
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
                "plan_cache_mode": "force_generic_plan",
                "jit": "off",
            }
        )
        return connection

    async def for_groups(self) -> tuple[Connection, str]:
        """Return a connection for groups, and the lock time-out that its role or database has for handlers."""
        connection, server = await self._connect(self._limits(self._idle))
        return connection, server.lock

    async def for_people(self) -> Connection:
        """Return a connection for what operators ask: it may read whole tables, and take its time."""
        connection, _ = await self._connect({**self._limits(PEOPLE_TIMEOUT), "lock_timeout": "2s"})
        return connection

    async def plain(self) -> Connection:
        """Return a connection for migrations: no limit on locks or statements, however large the table."""
        connection, _ = await self._connect({**self._limits(0), "lock_timeout": "0"})
        return connection

    def _limits(self, statement: float) -> dict[str, str]:
        limits = {
            # The column shows 63 bytes.
            "application_name": f"consumer {self._app}"[:63],
            "idle_in_transaction_session_timeout": str(int(self._idle * 1000)),
            "statement_timeout": str(int(statement * 1000)),
            "default_transaction_isolation": "read committed",
            **_KEEPALIVE,
            "tcp_user_timeout": str(_USER_TIMEOUT),
        }
        if self._checks:
            limits[_CHECK] = str(CHECK_INTERVAL)
        return limits

    async def _connect(self, settings: dict[str, str]) -> tuple[Connection, _Server]:
        try:
            return await self._checked(settings)
        except SettingsError as error:
            if not self.trusted:
                raise
            # It was a good server once: somebody is at work on it, and the worker waits.
            raise StoreUnavailable(str(error)) from error
        except (*DRIVER, ValueError) as error:
            if (
                isinstance(error, asyncpg.UndefinedObjectError)
                and _CHECK in str(error)
                and _CHECK in settings
            ):
                # PostgreSQL 13 does not have it (and one that is older still is refused by its version).
                self._checks = False
                return await self._connect({k: v for k, v in settings.items() if k != _CHECK})
            reason = None if self.trusted else self._hopeless(error)
            if reason is not None:
                raise SettingsError(f"store={self.shown!r}: {reason}") from None
            raise StoreUnavailable(f"PostgreSQL at {self.shown}: {one_line(error)}") from error

    def _hopeless(self, error: BaseException) -> str | None:
        """Return why this URL can never work; `None` where trying again may help."""
        authorities, certificate, key = _FILES
        broken = unreadable(self._files, authorities=authorities, certificate=certificate, key=key)
        return broken or settings_fault(error)

    async def _checked(self, settings: dict[str, str]) -> tuple[Connection, _Server]:
        connection = await asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT, server_settings=settings)
        try:
            _tune_socket(connection)
            row = await connection.fetchrow(_ASK)
            server = msgspec.convert(dict(row or {}), _Server)
            self._refuse(server, settings)
        except BaseException:
            connection.terminate()
            raise
        return connection, server

    def _refuse(self, server: _Server, settings: dict[str, str]) -> None:
        where = f"store={self.shown!r}"
        if server.version < OLDEST:
            raise SettingsError(
                f"{where}: PostgreSQL {server.version // 10000} is too old; 13 or newer is needed"
            )
        if server.recovery or server.read_only:
            raise SettingsError(
                f"{where}: the server is read-only (a replica, or default_transaction_read_only=on);"
                " name the primary, or add target_session_attrs=read-write"
            )
        wanted = (settings["idle_in_transaction_session_timeout"], settings["statement_timeout"])
        if (server.idle, server.statement) != wanted:
            raise SettingsError(
                f"{where}: the limits asked for at connection are not in force (idle_in_transaction_session_timeout:"
                f" asked {wanted[0]} ms, found {server.idle} ms). A pooler between (PgBouncer) drops them;"
                " connect to PostgreSQL itself"
            )
        if server.synchronous == "off" and not self._weak:
            raise SettingsError(
                f"{where}: synchronous_commit=off forgets the last commits in a crash, and their messages would run"
                " again; alter role … set synchronous_commit=on, or say weak=yes in the URL"
            )
        self.weakness = _weakness(server)


_ASK = """
select current_setting('server_version_num')::int as version, pg_is_in_recovery() as recovery,
       current_setting('default_transaction_read_only') = 'on'
           or current_setting('transaction_read_only') = 'on' as read_only,
       current_setting('synchronous_commit') as synchronous, current_setting('fsync') as fsync,
       current_setting('full_page_writes') as pages,
       (select setting from pg_settings where name = 'idle_in_transaction_session_timeout') as idle,
       (select setting from pg_settings where name = 'statement_timeout') as statement,
       current_setting('lock_timeout') as lock
"""


def _check_ports(netloc: str) -> None:
    """Refuse a port that cannot be one: the resolver's words for it sound like a server that is away.

    Raises:
        ValueError: names the port.
    """
    for place in netloc.rpartition("@")[2].split(","):
        port = place.rpartition("]")[2].rpartition(":")[2] if ":" in place.rpartition("]")[2] else ""
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ValueError(f"{port!r} is not a port number")


def _weakness(server: _Server) -> str:
    found = [
        name
        for name, value in (
            ("synchronous_commit", server.synchronous),
            ("fsync", server.fsync),
            ("full_page_writes", server.pages),
        )
        if value == "off"
    ]
    if not found:
        return ""
    return (
        f"{' and '.join(found)} off: a crash of the server may forget what was committed, and it runs again"
    )


def _tune_socket(connection: Connection) -> None:
    """Notice a dead server although nothing is sent, and although what was sent is never acknowledged."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to its socket
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
