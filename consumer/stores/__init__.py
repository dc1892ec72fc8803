"""Stores by URL. A driver is imported only when its store is asked for."""

from __future__ import annotations

from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from consumer.errors import SettingsError
from consumer.ports.store import Store
from consumer.settings import redacted

__all__ = ["KeepsHistory", "RaisesTokens", "open_store"]

_KNOWN = "sqlite:///shop.db, postgresql://user@host:5432/shop, redis://host:6379/0 or memory:"

_SERVERS = ("postgres", "redis")


@runtime_checkable
class KeepsHistory(Protocol):
    """A store that may fall back to an older copy of itself, and refuses claims until somebody answers for that."""

    async def accept_history(self, reason: str) -> list[str]:
        """Let claims go on; return what was wrong.

        Args:
            reason: why that is right, kept in the store; never empty.

        Raises:
            StoreUnavailable: nobody answers; the same call may be repeated.
        """
        ...


@runtime_checkable
class RaisesTokens(Protocol):
    """A store whose tokens come from a counter in it: a restored copy would hand out again what was handed out already."""

    async def raise_tokens(self, floor: int) -> int:
        """See that no token up to `floor` is handed out any more; return the greatest that counts as handed out.

        Never goes back: a smaller floor changes nothing. Nobody claims meanwhile.

        Raises:
            StoreUnavailable: nobody answers; the same call may be repeated.
        """
        ...


def open_store(url: str, app: str) -> Store:
    """Return the store that a URL names, not yet connected: `Store.open` does that.

    Args:
        url: `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://…` or `postgres://…`,
            `redis://…`, `rediss://…`, `redis+sentinel://…` or `redis+cluster://…`.
        app: the app that the handle works for.

    Raises:
        SettingsError: the URL cannot be understood, its store is not built, or its driver is not installed; the text
            names the value (without its password) and the mend.
    """
    scheme, colon, _ = url.partition(":")
    if colon and scheme.lower().startswith(_SERVERS) and not url[len(scheme) :].startswith("://"):
        # A driver would read no host in it, and go to this machine.
        raise SettingsError(
            f"store={redacted(url)!r}: a server's URL has two slashes: {scheme.lower()}://host/…"
        )
    match scheme.lower() if colon else "":
        case "memory":
            from consumer.stores.memory import MemoryStore  # noqa: PLC0415 - each store only when it is asked for

            return MemoryStore(app)
        case "sqlite":
            path = _sqlite_path(url)
            from consumer.stores.sqlite import SqliteStore  # noqa: PLC0415

            return SqliteStore(path, app)
        case "postgresql" | "postgres":
            return _postgres(url, app)
        case "redis" | "rediss":
            return _redis(url, app)
        case str(kind) if kind.startswith(("redis+", "rediss+")):
            return _redis(url, app)
        case _:
            raise SettingsError(f"store={redacted(url)!r}: no such kind of store; use {_KNOWN}")


def _sqlite_path(url: str) -> str:
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or parts.query or not path or path == ":memory:" or not parts.path.startswith("/"):
        raise SettingsError(
            f"store={redacted(url)!r}: a file is needed, sqlite:///relative.db or sqlite:////absolute.db"
            " (or memory: to keep nothing)"
        )
    return path


def _postgres(url: str, app: str) -> Store:
    try:
        from consumer.stores.postgres import PostgresStore  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "asyncpg":
            raise
        raise SettingsError(
            f"store={redacted(url)!r}: the driver asyncpg is not installed;"
            " pip install 'idempotent-consumer[postgres]'"
        ) from None
    return PostgresStore(url, app)


def _redis(url: str, app: str) -> Store:
    try:
        from consumer.stores.redis import RedisStore  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "redis":
            raise
        raise SettingsError(
            f"store={redacted(url)!r}: the driver redis is not installed; pip install 'idempotent-consumer[redis]'"
        ) from None
    return RedisStore(url, app)
