"""A COMMIT that got no reply: neither run again nor believed, but asked about."""

from __future__ import annotations

from typing import Any

import pytest

from consumer import App, Context, Key, Transactional, Tx
from consumer.errors import BrokerUnavailable, CommitUnknown
from consumer.ports.transport import Published
from tests.path.kit import Order, RecordingSink, opened
from tests.path.listsource import ListSource


class Network:
    """Loses what belongs to the first COMMIT: its reply (it happened), or its request (it did not)."""

    def __init__(self, *, committed: bool) -> None:
        self.committed = committed
        self.lost = 0

    def wrap(self, store: Any) -> Any:
        return _Wrapped(store, groups=_Groups(store.groups, self))


class _Wrapped:
    def __init__(self, inner: Any, **parts: Any) -> None:
        self._inner = inner
        self.__dict__.update(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Groups(_Wrapped):
    def __init__(self, groups: Any, network: Network) -> None:
        super().__init__(groups)
        self._network = network

    async def open(self) -> Any:
        return _Group(await self._inner.open(), self._network)


class _Group(_Wrapped):
    def __init__(self, group: Any, network: Network) -> None:
        super().__init__(group)
        self._network = network

    async def commit(self) -> None:
        if self._network.lost:
            await self._inner.commit()
            return
        self._network.lost += 1
        await (self._inner.commit() if self._network.committed else self._inner.rollback())
        raise CommitUnknown("the reply to COMMIT was lost")

    async def outcome(self) -> bool:
        return self._network.committed


def shop() -> tuple[App, list[str], Any]:
    app, starts = App("shop"), list[str]()

    @app.on("orders", key=Key.field("id"), mode=Transactional())
    async def take(order: Order, tx: Tx) -> str:
        starts.append(order.id)
        await tx.execute("insert into effects (id) values ($1)", order.id)
        return order.id

    return app, starts, take


@pytest.mark.parametrize("committed", [True, False], ids=["happened", "did-not"])
async def test_a_group_is_asked_about(committed: bool, url: str) -> None:
    """Mutants: exception on COMMIT taken for "not committed"; and for "committed" (`seal_and_commit`)."""
    app, starts, _ = shop()
    network, source = Network(committed=committed), ListSource()
    orders = [Order(f"k{number}") for number in range(5)]
    for order in orders:
        source.add("orders", order)
    async with opened(app, url, source=source, wrap=network.wrap) as process:
        await process.rest()
        assert network.lost == 1
        assert await process.effects() == [order.id for order in orders]
        assert set((await process.states()).values()) == {"done"}
        endings = [process.watch.of(order.id)[-1] for order in orders]
    assert [ending.duplicate for ending in endings] == [False] * 5, (
        "no handler's success is told as another's"
    )
    if committed:
        assert sorted(starts) == [order.id for order in orders], "no handler runs on a guess"


async def test_a_caller_is_told_what_has_happened(url: str) -> None:
    """It committed, so the caller gets the result, and no fault."""
    app, starts, take = shop()
    async with opened(app, url, wrap=Network(committed=True).wrap) as process:
        assert await process.running.call(take, Order("k")) == "k"
        assert await process.effects() == ["k"]
    assert starts == ["k"]


class Outage(RecordingSink):
    """A broker that does not answer the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 1

    async def publish(self, messages: Any) -> list[Published]:
        if self.failures:
            self.failures -= 1
            raise BrokerUnavailable("no answer")
        return await super().publish(messages)


async def test_what_the_broker_did_not_take_is_published_later(url: str) -> None:
    """Mutant: marked as sent before it is published (`Relay.pass_on`)."""
    app, sink = App("shop"), Outage()

    @app.on("orders", key=Key.field("id"), mode=Transactional())
    async def take(order: Order, ctx: Context, tx: Tx) -> None:
        ctx.publish("effects", order.id.encode())

    async with opened(app, url, source=ListSource(), sink=sink) as process:
        process.source.add("orders", Order("k"))
        await process.rest()
    assert [message.value for message in sink.published] == [b"k"]
