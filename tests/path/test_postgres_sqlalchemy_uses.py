"""`consumer.sqlalchemy.session` in every way in, with JSON, streams and changing tables; and where it cannot be had."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import pytest
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from consumer import App, Batch, Context, Key, Tx
from consumer.entry import State
from consumer.errors import SettingsError
from consumer.http import Request, single_tenant
from consumer.sqlalchemy import session
from consumer.testing import Harness
from tests.http.shopkit import migrated, serving
from tests.path.kit import Order, opened
from tests.path.kit import select as rows
from tests.path.ormkit import MODE, TABLES, Booked, app_of, booked, broken, ended


class Wanted(Struct):
    """A request's body."""

    do: str


# ------------------------------------------------------------------------------------------------------- ways in


async def test_a_call_and_its_result(postgres_url: str) -> None:
    app = App("shop")
    app.schema(postgres=TABLES)
    app.resource(session)

    @app.on("orders", key=Key.field("id"), mode=MODE)
    async def book(order: Order, db: AsyncSession) -> dict[str, Any]:
        row = Booked(code=order.id, about={"amount": order.amount})
        db.add(row)
        await db.flush()
        broken(order)
        return {"id": row.id, "about": row.about}

    async with opened(app, postgres_url, consume=False) as shop:
        told = await asyncio.gather(*(shop.running.call(book, Order(f"k-{n}", amount=n)) for n in range(20)))
        again = await shop.running.call(book, Order("k-3", amount=3))
        with pytest.raises(ValueError, match="broken"):
            await shop.running.call(book, Order("bad", "raise"))
        assert len(await shop.entries(State.DONE)) == 20
    assert [one["about"] for one in told] == [{"amount": n} for n in range(20)]
    assert again == told[3]
    assert len(await booked(postgres_url)) == 20


async def test_an_endpoint_stores_its_response_with_the_rows(postgres_url: str) -> None:
    app = App("shop")
    app.schema(postgres=TABLES)
    app.resource(session)

    @app.on("orders", key=Key.field("id"), mode=MODE, same=("do", "amount"))
    async def book(order: Order, db: AsyncSession) -> dict[str, Any]:
        row = Booked(code=order.id, about={"amount": order.amount})
        db.add(row)
        await db.commit()
        broken(order)
        return {"id": row.id, "about": row.about}

    def order_of(body: Wanted, request: Request) -> Order:
        return Order(request.key, body.do)

    app.endpoint("POST", "/orders", book, translate=order_of, tenant=single_tenant, status=201)
    await migrated(app, postgres_url)
    async with serving(app, postgres_url) as site:
        first = await site.post("/orders", "k-1", {"do": "return"})
        again = await site.post("/orders", "k-1", {"do": "return"})
        bad = await site.post("/orders", "k-2", {"do": "raise"})
    assert (first.status_code, again.status_code, bad.status_code) == (201, 201, 500)
    assert first.content == again.content
    assert first.json()["about"] == {"amount": 1}
    assert await booked(postgres_url) == ["k-1"]


async def test_a_batch(postgres_url: str) -> None:
    app = App("shop")
    app.schema(postgres=TABLES)
    app.resource(session)

    @app.on("orders", key=Key.field("id"), mode=MODE, batch=10)
    async def book(orders: Batch[Order], db: AsyncSession) -> None:
        for item in orders:
            if item.payload.do == "raise":
                item.reject("never")
            else:
                db.add(Booked(code=item.payload.id))

    states, codes = await ended(app, postgres_url, Order("a"), Order("bad", "raise"), Order("c"))
    assert states == {"a": "done", "bad": "dead", "c": "done"}
    assert codes == ["a", "c"]


async def test_json_is_decoded_for_the_session_and_stays_text_for_tx(postgres_url: str) -> None:
    """The driver's codecs are the connection's, which neighbours share."""
    read: list[Any] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        about = {"a": [1, None]}
        db.add(Booked(code=order.id, about=about, more=[about, "x"], plain=about))
        await db.flush()
        db.expunge_all()
        row = await db.scalar(select(Booked).where(Booked.code == order.id))
        assert row is not None
        read.append((row.about, row.more, row.plain, (await db.scalar(select(Booked.about["a"])))))
        read.append(tuple(await tx.fetch_one("select about, plain from booked") or ()))

    states, _ = await ended(app_of(do), postgres_url, Order("a"))
    assert states == {"a": "done"}
    about = {"a": [1, None]}
    assert read == [(about, [about, "x"], about, [1, None]), ('{"a": [1, null]}', '{"a": [1, null]}')]


async def test_a_stream_of_rows(postgres_url: str) -> None:
    found: list[str] = []

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        db.add_all([Booked(code=f"c-{number:03}") for number in range(300)])
        await db.flush()
        stream = await db.stream_scalars(select(Booked.code).order_by(Booked.code))
        found.extend([code async for code in stream])

    states, codes = await ended(app_of(do), postgres_url, Order("a"))
    assert states == {"a": "done"}
    assert found == codes
    assert len(found) == 300


async def test_a_table_that_changes_costs_an_attempt_at_most(postgres_url: str) -> None:
    """Prepared statements on it are stale, and forgotten together."""

    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        await db.execute(text("select * from booked"))
        await db.execute(text("select * from booked limit 1"))

    async with opened(app_of(do), postgres_url) as shop:
        await shop.publish("orders", [Order("before")])
        await shop.rest()
        await rows(postgres_url, "alter table booked alter column code type varchar(50)")
        await shop.publish("orders", [Order("after")])
        await shop.rest()
        assert await shop.states() == {"before": "done", "after": "done"}


# ------------------------------------------------------------------------------------------------- other stores


async def test_on_sqlite_it_says_so(tmp_path: Any) -> None:
    async def do(order: Order, db: AsyncSession, tx: Tx, ctx: Context) -> None:
        raise AssertionError("not reached")

    app = app_of(do)
    with pytest.raises(
        SettingsError, match="orders asks for AsyncSession, which .*:session .* yields on postgres only"
    ):
        async with opened(app, f"sqlite:///{tmp_path / 'shop.db'}"):
            raise AssertionError("not reached")
    async with Harness(app, resources={AsyncSession: object()}) as shop:
        story = await shop.deliver("orders", Order("a"))
    assert "not reached" in (story.reason or ""), "a value of the test's own is not the resource"


@pytest.mark.parametrize("package", ["asyncpg", "greenlet", "sqlalchemy"])
def test_what_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    for name in [
        name for name in sys.modules if name.startswith(("consumer.sqlalchemy", "consumer.stores.postgres"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError) as told:
        importlib.import_module("consumer.sqlalchemy")
    assert str(told.value) == (
        f"consumer.sqlalchemy: the package {package} is not installed; pip install 'idempotent-consumer[sqlalchemy]'"
    )
