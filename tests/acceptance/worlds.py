"""Where the reference application is deployed: SQLite, Postgres with embedded topics, Kafka with Postgres."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from tests.acceptance.shop import Shop, produce, rows

__all__ = ["EmbeddedOnPostgres", "EmbeddedOnSqlite", "KafkaOnPostgres", "World", "as_bytes"]


class World(Protocol):
    """A deployment: its shop, a way to send to it, and a look into its database."""

    shop: Shop
    source: str

    async def send(self, topic: str, values: Sequence[Any], *, tenant: str | None = None) -> None: ...

    async def query(self, sql: str) -> list[tuple[Any, ...]]: ...


def as_bytes(value: Any) -> bytes:
    """Bytes and text as they are, anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


class EmbeddedOnSqlite:
    source = "embedded"

    def __init__(self, folder: Path, app: str = "handlers.app:app") -> None:
        self._file = folder / "shop.db"
        self.shop = Shop(folder, store=f"sqlite:///{self._file}", app=app)

    async def send(self, topic: str, values: Sequence[Any], *, tenant: str | None = None) -> None:
        self.shop.publish(topic, values, *(["--tenant", tenant] if tenant else []), "--key-field", "account")

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._file, timeout=10)) as connection:
            return connection.execute(sql).fetchall()


class EmbeddedOnPostgres:
    source = "embedded"

    def __init__(self, folder: Path, url: str, app: str = "handlers.app:app") -> None:
        self._url = url
        self.shop = Shop(folder, store=url, app=app)

    async def send(self, topic: str, values: Sequence[Any], *, tenant: str | None = None) -> None:
        self.shop.publish(topic, values, *(["--tenant", tenant] if tenant else []), "--key-field", "account")

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await rows(self._url, sql)]


class KafkaOnPostgres:
    source = "kafka"

    def __init__(self, folder: Path, url: str, bootstrap: str, app: str = "handlers.app:app") -> None:
        self._url = url
        self.bootstrap = bootstrap
        self.shop = Shop(folder, store=url, broker=f"kafka://{bootstrap}", app=app)

    async def send(self, topic: str, values: Sequence[Any], *, tenant: str | None = None) -> None:
        records: list[tuple[bytes | None, bytes | None]] = [(None, as_bytes(value)) for value in values]
        headers = [("tenant", tenant.encode())] if tenant else None
        await produce(self.bootstrap, topic, records, headers)

    async def query(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await rows(self._url, sql)]
