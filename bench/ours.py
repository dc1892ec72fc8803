"""The contestants that use this package: ordinary apps, run by the ordinary worker, with the settings of `CONSUMER_*`."""

import uuid

from bench.load import Payment
from bench.meter import Measured, Meter, MeteredSource
from consumer import App, AtMostOnce, Key, Settings, Transactional, Tx
from consumer.stores import open_store
from consumer.worker.connect import connect

__all__ = ["at_most_once", "execute", "write"]

LEDGER = (
    "create table if not exists ledger"
    " (payment_id text not null, account text not null, amount bigint not null, currency text not null)"
)
ROW = "insert into ledger (payment_id, account, amount, currency) values ($1, $2, $3, $4)"


async def execute(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """`await tx.execute`: the handler's statement is sent, and answered, while it waits."""
    app = App("bench")
    app.schema(postgres=[LEDGER])

    @app.on(topic, key=Key.field("payment_id"), mode=Transactional())
    async def take(payment: Payment, tx: Tx) -> None:
        await tx.execute(ROW, payment.payment_id, payment.account, payment.amount, payment.currency)

    return await _run(app, store, bootstrap, messages)


async def write(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """`tx.write`: the statements of a group go out together."""
    app = App("bench")
    app.schema(postgres=[LEDGER])

    @app.on(topic, key=Key.field("payment_id"), mode=Transactional())
    async def take(payment: Payment, tx: Tx) -> None:
        tx.write(ROW, payment.payment_id, payment.account, payment.amount, payment.currency)

    return await _run(app, store, bootstrap, messages)


async def at_most_once(store: str, bootstrap: str, topic: str, messages: int) -> Measured:
    """A handler that only takes effect elsewhere, in the default number of slots: 64."""
    app = App("bench")
    started = 0

    @app.on(topic, key=Key.field("payment_id"), mode=AtMostOnce())
    async def take(payment: Payment) -> None:  # noqa: ARG001 - nobody needs it
        nonlocal started
        started += 1

    measured = await _run(app, store, bootstrap, messages)
    measured.started = started
    return measured


async def _run(app: App, store: str, bootstrap: str, messages: int) -> Measured:
    opened = open_store(store, app.name)
    await opened.migrate(app.own_schema("postgres"))
    await opened.close()
    settings = Settings.load(store=store, broker=f"kafka://{bootstrap}", consumer_group=uuid.uuid4().hex)
    connections = connect(app.name, settings, app.handlers.declared)
    meter = Meter(messages)
    assert connections.source is not None
    connections.source = MeteredSource(connections.source, meter)
    async with app.running(settings, consume=True, connections=connections):
        await meter.done.wait()
    return meter.measured()
