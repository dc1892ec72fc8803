"""One engine for the process: SQLAlchemy's compiled statements and what it knows of the server, but no connection."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any

from sqlalchemy import JSON, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from consumer.errors import ConsumerError
from consumer.sqlalchemy.lent import Lent

__all__ = ["lend"]

_lent: ContextVar[Lent] = ContextVar("consumer_sqlalchemy_lent")
"""From `lend` to the engine's creator, which SQLAlchemy calls without arguments."""


async def lend(lent: Lent) -> AsyncConnection:
    """Return SQLAlchemy's connection over a lent one; nothing is sent, but for the first one's questions to the server."""
    token = _lent.set(lent)
    try:
        return await _engine().connect()
    finally:
        _lent.reset(token)


@functools.cache
def _engine() -> AsyncEngine:
    """Return the process' engine. Made once: it compiles each statement once, and asks once for the server's version."""
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=_take, poolclass=NullPool, pool_reset_on_return=None
    )
    dialect = engine.dialect
    # The dialect would set codecs on the connection, which neighbours use as well: here the types themselves decode JSON.
    dialect.supports_native_json_deserialization = False
    dialect.colspecs = {**dialect.colspecs, JSON: postgresql.JSON, postgresql.JSONB: postgresql.JSONB}
    event.listen(engine.sync_engine, "set_connection_execution_options", _refuse_isolation)
    return engine


async def _take(*_: Any, **__: Any) -> Lent:
    return _lent.get()


def _refuse_isolation(connection: Connection, options: dict[str, Any]) -> None:  # noqa: ARG001 - SQLAlchemy's form
    if "isolation_level" in options:
        raise ConsumerError(
            f"isolation_level={options['isolation_level']!r} is not a handler's to choose: the transaction is the group's, "
            "and read committed"
        )
