"""One key space per tenant: what one of them does never meets another's."""

from __future__ import annotations

from consumer import App, Context, Key, Transactional, Tx
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource


async def test_one_key_of_two_tenants_is_two_operations(url: str) -> None:
    """Mutant: tenants share their keys (`keying.envelope_of`: the identity without the tenant)."""
    app, source = App("shop"), ListSource()

    @app.on("orders", key=Key.field("id"), mode=Transactional(), tenant=Key.header("tenant"))
    async def take(order: Order, ctx: Context, tx: Tx) -> None:
        await tx.execute("insert into effects (id, what) values ($1, $2)", order.id, ctx.tenant)

    for tenant, amount in ((b"acme", 1), (b"bolt", 2), (b"acme", 1)):
        source.add("orders", Order("k", amount=amount), headers=(("tenant", tenant),))
    async with opened(app, url, source=source) as process:
        await process.rest()
        entries = [(entry.tenant, entry.state.word) for entry in await process.entries()]
        assert await process.effects() == ["k", "k"]
    assert sorted(entries) == [("acme", "done"), ("bolt", "done")]
