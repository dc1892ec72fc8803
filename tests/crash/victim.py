"""A process of an app that is killed: `python -m tests.crash.victim PLAN` (JSON). Tests run it in their own process too."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Transactional, Tx
from consumer.entry import State
from consumer.message import Delivery, Message, Outgoing
from consumer.path.routing import Router
from consumer.ports.store import Store
from consumer.ports.transport import Published
from consumer.rules.watermark import Watermark
from consumer.settings import Settings
from consumer.stores import open_store
from consumer.worker.connect import Connections
from tests.crash.killers import Killer, MortalSource, MortalStore
from tests.crash.plan import HANDLER, Plan

__all__ = ["APP", "build", "run"]

APP = "victim"
TABLE = "create table if not exists effects (id text, token bigint)"
SOON = Backoff(5, first=0)


class Order(msgspec.Struct):
    id: str


class FileSource:
    """A partition whose committed position is a file: a new process begins behind the last contiguous ack."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._mark = Watermark(0)
        self._next = 0
        acked = {line["offset"] for line in plan.noted("acks")}
        while self._next in acked:
            self._next += 1
        self._first = self._next

    @property
    def settled(self) -> bool:
        return self._next == len(self._plan.keys) and self._mark.in_hand == 0

    async def start(self, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
        pass

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        if self._next == len(self._plan.keys) or self._mark.in_hand:
            await asyncio.sleep(0.005)  # batch by batch, so that a second group or turn is certain to come
            return []
        await asyncio.sleep(0)
        taken = []
        for offset in range(self._next, min(self._next + self._plan.batch, len(self._plan.keys))):
            value = msgspec.json.encode(Order(self._plan.keys[offset]))
            message = Message("orders", value, source="kafka", position=f"orders/0/{offset}")
            self._mark.delivered(offset)
            taken.append(Delivery(message, offset))
            self._next = offset + 1
        return taken

    def held(self, delivery: Delivery) -> bool:
        return True

    def ack(self, delivery: Delivery) -> None:
        self._plan.note("acks", offset=delivery.receipt, key=self._plan.keys[delivery.receipt])
        self._mark.acked(delivery.receipt)

    async def stop(self) -> None:
        pass


class FileSink:
    """Takes everything: a line per message."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        for _, message in messages:
            self._plan.note("published", id=message.id.hex(), key=message.value.decode())
        return [Published()] * len(messages)


def build(plan: Plan, killer: Killer) -> App:
    """The app: one handler, whose every start is a line in `effects`."""
    app = App(APP)
    app.schema(postgres=[TABLE], sqlite=[TABLE])

    def act(order: Order, ctx: Context) -> str:
        plan.note("effects", key=order.id, token=ctx.fencing_token, attempt=ctx.attempt)
        if order.id == plan.poison:
            killer.kill()
        killer.at(HANDLER)
        ctx.publish("done", order.id.encode())
        return order.id

    if plan.mode == "Transactional":

        @app.on("orders", key=Key.field("id"), mode=Transactional(retry=SOON))
        async def in_transaction(order: Order, ctx: Context, tx: Tx) -> str:
            await tx.execute("insert into effects values ($1, $2)", order.id, ctx.fencing_token)
            return act(order, ctx)
    else:
        mode = AtMostOnce() if plan.mode == "AtMostOnce" else AtLeastOnce(retry=SOON)

        @app.on("orders", key=Key.field("id"), mode=mode)
        async def outside(order: Order, ctx: Context) -> str:
            result = act(order, ctx)
            await asyncio.sleep(0)  # so that its neighbours have started too when one of them is killed
            return result

    return app


async def run(plan: Plan, seconds: float = 20.0) -> None:
    """Run the app until everything is acknowledged, at rest and published, or the killer strikes."""
    killer = Killer(plan)
    app = build(plan, killer)
    source = FileSource(plan)
    store = open_store(plan.url, APP)
    mortal: Any = MortalStore(store, killer)
    connections = Connections(
        mortal,
        lambda: open_store(plan.url, APP),
        MortalSource(source, killer),
        FileSink(plan),
        Router(APP, app.handlers.declared, frozenset()),
    )
    settings = Settings(store=plan.url, worker_ttl=1, slots=plan.slots, grace=2)
    async with (
        asyncio.timeout(seconds),
        app.running(settings, consume=True, connections=connections),
    ):
        while not (source.settled and await _rests(store)):  # noqa: ASYNC110 - a store tells nobody when it rests
            await asyncio.sleep(0.02)


async def _rests(store: Store) -> bool:
    moving = await store.operator.entries(states=[State.RECEIVED, State.RUNNING, State.WAITING], limit=1)
    return not moving and not await store.operator.outgoing(limit=1)


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Plan)))
