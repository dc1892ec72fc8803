"""Where asyncpg's exceptions become the project's: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from consumer.errors import (
    AccessRefused,
    ConsumerError,
    Contended,
    GroupFault,
    SchemaMismatch,
    StoreUnavailable,
    WritesRefused,
)
from consumer.tls import refused

__all__ = [
    "DRIVER",
    "group_fault",
    "handler_fault",
    "is_lost",
    "mapped",
    "one_line",
    "settings_fault",
    "store_fault",
]

DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that asyncpg raises (its time-outs are `TimeoutError`, an `OSError`)."""

_CONTENDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
    OSError,
)
"""The connection is gone, and with it whatever it was doing."""
_UNWRITTEN = (asyncpg.DiskFullError, asyncpg.ReadOnlySQLTransactionError)
_NO_SUCH_TABLE = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)
_SETTINGS = (
    asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password is one of these
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ProtocolViolationError,  # a pooler that does not know a start-up parameter
    asyncpg.UndefinedObjectError,  # a parameter in the URL that neither driver nor server knows
    ValueError,  # a URL that the driver cannot read
)


def one_line(error: BaseException) -> str:
    """Return an error's text as one line, for logs and for people."""
    text = " ".join(str(error).split()) or type(error).__name__
    # What asyncpg says of itself where the server hangs up; people are told of the server.
    return "the connection was lost" if "connection_lost" in text else text


def is_lost(error: BaseException) -> bool:
    """Whether the connection that raised `error` is gone."""
    return isinstance(error, _LOST)


def store_fault(error: BaseException) -> ConsumerError:
    """Return what a failure of a statement of our own means outside of a group."""
    if isinstance(error, _CONTENDED):
        return Contended(one_line(error))
    if isinstance(error, _NO_SUCH_TABLE):
        return SchemaMismatch(f"the store's tables are not there: {one_line(error)}; run `consumer migrate`")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return AccessRefused(f"store: the role may not do what it must: {one_line(error)}")
    if isinstance(error, (asyncpg.SyntaxOrAccessError, asyncpg.DataError)):
        # Waiting does not mend it: a mistake of ours, or a change of the tables by somebody else.
        return ConsumerError(f"PostgreSQL refuses a statement of the store: {one_line(error)}")
    if isinstance(error, _UNWRITTEN):
        return WritesRefused(f"PostgreSQL: {one_line(error)}")
    return StoreUnavailable(f"PostgreSQL: {one_line(error)}")


def group_fault(error: BaseException, *, closed: bool) -> ConsumerError:
    """Return what a failure of a statement of our own means inside of a group's transaction.

    Args:
        error: as asyncpg raised it.
        closed: the connection is closed now.
    """
    if isinstance(error, _CONTENDED):
        return Contended(one_line(error))
    if closed or is_lost(error):
        return StoreUnavailable(f"PostgreSQL: {one_line(error)}")
    if isinstance(error, asyncpg.InFailedSQLTransactionError):
        return GroupFault("the transaction is aborted: somebody swallowed the error of a statement")
    return GroupFault(f"the transaction cannot go on: {one_line(error)}")


def handler_fault(error: BaseException, *, closed: bool) -> ConsumerError | None:
    """Return what a failure of a handler's statement means to the group; `None`: it is the handler's own affair.

    Args:
        error: as asyncpg raised it.
        closed: the connection is closed now.
    """
    if isinstance(error, _CONTENDED):
        return Contended(one_line(error))
    if closed or is_lost(error):
        return StoreUnavailable(f"PostgreSQL: {one_line(error)}")
    return None


def settings_fault(error: BaseException) -> str | None:
    """Return why a connection can never be had with these settings; `None` where trying again may help."""
    if (why := refused(error, authorities="sslrootcert", own="sslcert")) is not None:
        return why
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return "the server does not speak TLS (ssl = off there), and sslmode in the URL demands it"
    if not isinstance(error, _SETTINGS):
        return None
    if isinstance(error, asyncpg.ProtocolViolationError) and "parameter" in str(error):
        return (
            f"{one_line(error)}. Limits on the server fence a process that is gone, and a pooler between"
            " (PgBouncer) does not pass them on: connect to PostgreSQL itself"
        )
    return one_line(error)


@contextmanager
def mapped() -> Iterator[None]:
    """Map what asyncpg raises inside, by `store_fault`."""
    try:
        yield
    except DRIVER as error:
        raise store_fault(error) from error
