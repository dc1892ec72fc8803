"""An application that maps its table with SQLAlchemy, for the tests of `consumer.sqlalchemy` on a real Postgres."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import JSON, String, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from consumer import App, Backoff, Context, Key, Transactional, Tx
from consumer.sqlalchemy import session
from tests.path.kit import Order, opened
from tests.path.kit import select as rows

__all__ = ["MODE", "TABLES", "Booked", "app_of", "booked", "broken", "ended", "pid_of"]

TABLES = [
    (
        "create table if not exists booked"
        " (id bigserial primary key, code text not null unique, about jsonb, more jsonb[], plain json)"
    )
]
MODE = Transactional(retry=Backoff(2, first=0))

Do = Callable[[Order, AsyncSession, Tx, Context], Awaitable[Any]]


class Base(DeclarativeBase):
    """The application's."""


class Booked(Base):
    __tablename__ = "booked"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String)
    about: Mapped[Any] = mapped_column(JSONB, nullable=True)
    more: Mapped[Any] = mapped_column(ARRAY(JSONB), nullable=True)
    plain: Mapped[Any] = mapped_column(JSON, nullable=True)


def app_of(do: Do, *, mode: Transactional = MODE, timeout: float = 10) -> App:
    app = App("shop")
    app.schema(postgres=TABLES)
    app.resource(session)

    @app.on("orders", key=Key.field("id"), mode=mode, timeout=timeout)
    async def book(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> Any:
        return await do(order, db, tx, ctx)

    return app


async def ended(app: App, url: str, *orders: Order) -> tuple[dict[str, str], list[str]]:
    """Run orders, all at once; return the states of their keys, and the codes that are booked."""
    async with opened(app, url) as shop:
        await shop.publish_at_once("orders", orders)
        await shop.rest()
        return await shop.states(), await booked(url)


async def booked(url: str) -> list[str]:
    return [code for (code,) in await rows(url, "select code from booked order by code")]


async def pid_of(db: AsyncSession) -> int:
    return (await db.execute(select(func.pg_backend_pid()))).scalar_one()


def broken(order: Order) -> None:
    if order.do == "raise":
        raise ValueError("broken")
