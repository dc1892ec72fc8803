"""`session`: SQLAlchemy's `AsyncSession` as an ordinary resource, inside the transaction that commits the entry.

`app.resource(session)` once; then every Transactional handler may ask for `db: AsyncSession`. PostgreSQL only: SQLAlchemy has
no asynchronous dialect for the driver of the SQLite store. Nothing of the library imports this module; see
docs/decisions/0015-sqlalchemy.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec

from consumer.declare.resources import only_on
from consumer.declare.tx import Tx
from consumer.errors import SettingsError

try:
    if find_spec("greenlet") is None:  # SQLAlchemy would miss it with the first statement only
        raise ModuleNotFoundError("No module named 'greenlet'", name="greenlet")
    from sqlalchemy.ext.asyncio import AsyncSession

    from consumer.sqlalchemy.engine import lend
    from consumer.sqlalchemy.lent import Lent
except ModuleNotFoundError as missing:
    package = (missing.name or "").partition(".")[0]
    if package not in {"asyncpg", "greenlet", "sqlalchemy"}:
        raise
    raise SettingsError(
        f"consumer.sqlalchemy: the package {package} is not installed;"
        " pip install 'idempotent-consumer[sqlalchemy]'"
    ) from None

__all__ = ["session"]


@only_on("postgres")
async def session(tx: Tx) -> AsyncIterator[AsyncSession]:
    """Yield a new `AsyncSession` over the attempt's own transaction; a resource that lives one attempt.

    What it writes commits with the entry, and is undone with it. The session's own transaction is a savepoint in the attempt's,
    made by its first statement: `commit()` releases it and commits nothing yet, `rollback()` undoes what was done since. When
    the handler has returned, what is pending is flushed: an error there is this attempt's failure. Then the session is closed
    for good. Objects stay readable after a commit (`expire_on_commit=False`): nothing is loaded behind a handler's back.

    Args:
        tx: the attempt's. What it has collected (`tx.write`) is sent before each statement of the session.

    Raises:
        SettingsError: the store is not PostgreSQL.
    """
    lent = Lent(tx)
    connection = await lend(lent)
    db = AsyncSession(bind=connection, expire_on_commit=False, close_resets_only=False)
    try:
        yield db
        await db.commit()
    finally:
        # From here on nothing reaches the server: a failed attempt is rolled back as a whole, by whoever runs it.
        lent.end()
        await db.close()
        await connection.close()
