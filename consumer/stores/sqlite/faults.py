"""The one place where the driver's exceptions become ours."""

from __future__ import annotations

import sqlite3

from consumer.errors import ConsumerError, Contended, SettingsError, StoreUnavailable, WritesRefused

__all__ = ["beneath_handler", "code_of", "fault"]

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_STORE_FAILED = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
"""Codes that say something about the file or the machine, and nothing about the statement."""


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 where Python itself refused (a wrong binding)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def fault(error: sqlite3.Error, path: str, *, opening: bool = False) -> ConsumerError:
    """Return what an error of the driver means to the caller of a port.

    Args:
        error: as the driver raised it.
        path: the database file, for the text.
        opening: whether a person starts a process or a command now; what waiting cannot mend is then a wrong
            setting.
    """
    code = code_of(error)
    if code == sqlite3.SQLITE_NOTADB:
        return SettingsError(f"{path}: this file is not an SQLite database")
    if code == sqlite3.SQLITE_READONLY and opening:
        return SettingsError(
            f"{path}: the file or its directory is read-only; the store must be able to write there"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreUnavailable(f"{path}: the file cannot be opened ({error})")
    if code in _BUSY:
        return WritesRefused(f"{path}: another program holds the database's lock ({error})")
    if "no such table: consumer_" in str(error) or "no such column" in str(error):
        return StoreUnavailable(
            f"{path}: the tables are not as they should be ({error}); run `consumer migrate`"
        )
    unwritten = code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}
    return (WritesRefused if unwritten else StoreUnavailable)(f"{path}: {error}")


def beneath_handler(error: sqlite3.Error, path: str) -> ConsumerError | None:
    """Return what an error in a handler's statement means to the group; `None`: it is the handler's own.

    A failed constraint, a misspelt column, a value that cannot be bound say something about the handler. A
    file that cannot be written, or a lock that somebody else holds, does not.
    """
    code = code_of(error)
    if code in _BUSY:
        return Contended(f"{path}: another program holds the database's lock ({error})")
    return fault(error, path) if code in _STORE_FAILED else None
