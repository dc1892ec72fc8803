"""When a delivery may be acknowledged: its entry is done, or at rest and holds the bytes. Never before, never by guess."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from consumer import App, AtLeastOnce, AtMostOnce, Context, Key
from consumer.declare.handlers import Handler
from consumer.entry import Kind, Landed, Landing, Settle, State, Won
from consumer.errors import StoreUnavailable
from consumer.path.keying import Unkeyed, claim_of, envelope_of
from consumer.ports.store import Store
from consumer.stores import open_store
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

PATIENCE = 5.0


class Other:
    """Another process on the same store, which does by hand what its worker would."""

    def __init__(self, store: Store, worker: int, source: ListSource, handler: Handler) -> None:
        self.store = store
        self.worker = worker
        self._source = source
        self._handler = handler

    async def claim(self, offset: int = 0) -> tuple[bytes, Won]:
        """Win the key of a message; nothing of it is stored but the claim."""
        message = self._source._partitions["orders", 0].log[offset]
        envelope = envelope_of("shop", self._handler, message)
        assert not isinstance(envelope, Unkeyed)
        _, [answer] = await self.store.inbox.turn(self.worker, [], [claim_of(self._handler, envelope)])
        assert isinstance(answer, Won), answer
        return envelope.identity, answer

    async def complete(self, identity: bytes, won: Won) -> None:
        done = Settle(identity, won.token, Kind.COMPLETE, result=b'"theirs"')
        await self.store.inbox.turn(self.worker, [done], [])


@asynccontextmanager
async def other(app: App, url: str, source: ListSource) -> AsyncIterator[Other]:
    store = open_store(url, "shop")
    await store.open()
    [handler] = app.handlers.declared
    try:
        yield Other(store, await store.workers.open(600, "another process"), source, handler)
    finally:
        await store.close()


def counting(mode: AtMostOnce | AtLeastOnce, starts: list[str]) -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=mode)
    async def take(order: Order) -> str:
        starts.append(order.id)
        return "ours"

    return app


async def test_a_duplicate_of_a_running_key_stays_in_hand(url: str) -> None:
    """It is asked about again and again, and acknowledged when the one that runs is done.

    Mutant: ack a duplicate of running (`endings.permits_ack`).
    """
    starts: list[str] = []
    app, source = counting(AtMostOnce(), starts), ListSource()
    async with opened(app, url, source=source) as process, other(app, url, source) as there:
        source._topics.clear()  # nothing is delivered before the key is taken
        source.add("orders", Order("k"))
        identity, won = await there.claim()
        source._topics.add("orders")
        await process.until(lambda: len(process.watch.of("k")) >= 2 or source.acks, PATIENCE)
        assert source.acks == []
        await there.complete(identity, won)
        await process.rest()
        assert source.acks == [("orders", 0, 0)]
        assert (await process.entry("k")).result == b'"theirs"'
    assert starts == []


async def test_a_fenced_delivery_stays_in_hand(url: str) -> None:
    """Its claim was lost while its handler ran: what it settles is refused, and its key is asked about until it is done.

    Mutants: no fence; fenced worker acks (`endings.fenced`); a lost settle taken for a good one (`turn_over`); fenced
    delivery forgotten (`InHand.ended`).
    """
    inside, leave = asyncio.Event(), asyncio.Event()
    app, source = App("shop"), ListSource()

    @app.on("orders", key=Key.field("id"), mode=AtLeastOnce())
    async def take(order: Order, ctx: Context) -> str:
        inside.set()
        await leave.wait()
        ctx.publish("effects", b"ours")
        return "ours"

    async with opened(app, url, source=source, reconnect=False) as process, other(app, url, source) as there:
        source.add("orders", Order("k"))
        await inside.wait()
        await there.store.workers.close(process.running.runtime.parts.worker)  # it is taken for dead
        await there.store.workers.adopt(10)  # or the other one's sweep did so already
        assert (await process.entry("k")).state is State.WAITING
        identity, won = await there.claim()
        leave.set()
        await process.until(lambda: len(process.watch.of("k")) >= 2 or source.acks, PATIENCE)
        assert source.acks == []
        assert [ending.state for ending in process.watch.of("k")[:2]] == [State.RUNNING, State.RUNNING]
        await there.complete(identity, won)
        await process.rest()
        assert source.acks == [("orders", 0, 0)]
        assert (await process.entry("k")).result == b'"theirs"'
        assert process.sink.published == []


async def test_a_doubt_without_bytes_gets_those_of_its_redelivery(url: str) -> None:
    """A process died in the handler, and nothing but its claim is known: the bytes are stored before the ack.

    Mutant: ack of a body-less entry (`held.endings_of_held`: acknowledged without the attach).
    """
    starts: list[str] = []
    app, source = counting(AtMostOnce(), starts), ListSource()
    async with opened(app, url, source=source) as process, other(app, url, source) as there:
        source._topics.clear()
        source.add("orders", Order("k"))
        await there.claim()
        await there.store.workers.close(there.worker)
        await there.store.workers.adopt(10)  # or the other one's sweep did so already
        assert (await process.entry("k")).state is State.IN_DOUBT
        assert (await process.entry("k")).message is None
        source._topics.add("orders")
        await process.rest()
        assert source.acks == [("orders", 0, 0)]
        entry = await process.entry("k")
        assert (entry.state, entry.message is not None) == (State.IN_DOUBT, True)
    assert starts == []


class _NoLanding:
    """A store that lands nothing until it is mended."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.arrivals = self
        self.refuses = True
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def land(self, landings: Sequence[Landing]) -> list[Landed]:
        if self.refuses:
            self.refused += 1
            raise StoreUnavailable("the disk is full")
        landed: list[Landed] = await self._store.arrivals.land(landings)
        return landed

    async def due(self, *args: Any) -> Any:
        return await self._store.arrivals.due(*args)


async def test_what_has_no_key_is_stored_before_it_is_acknowledged(url: str) -> None:
    """Mutant: ack before the born-dead landing (`Intake.take` permits at once)."""
    stores: list[_NoLanding] = []

    def wrap(store: Store) -> Store:
        stores.append(_NoLanding(store))
        wrapped: Any = stores[0]
        return wrapped

    source = ListSource()
    async with opened(counting(AtMostOnce(), []), url, source=source, wrap=wrap) as process:
        source.add("orders", b"{")
        await process.until(lambda: stores[0].refused >= 2, PATIENCE)
        assert source.acks == []
        stores[0].refuses = False
        await process.rest()
        assert source.acks == [("orders", 0, 0)]
        [entry] = await process.entries(State.DEAD)
        assert entry.message is not None
        assert not entry.keyed


async def test_a_conflict_is_stored_before_it_is_acknowledged(url: str) -> None:
    """Mutant: conflict acked without an entry (`held.endings_of_held`)."""
    stores: list[_NoLanding] = []

    def wrap(store: Store) -> Store:
        stores.append(_NoLanding(store))
        wrapped: Any = stores[0]
        return wrapped

    starts: list[str] = []
    source = ListSource()
    async with opened(counting(AtMostOnce(), starts), url, source=source, wrap=wrap) as process:
        source.add("orders", Order("k"))
        await process.rest()
        source.add("orders", Order("k", amount=2))
        await process.until(lambda: stores[0].refused >= 2 or len(source.acks) > 1, PATIENCE)
        assert source.acks == [("orders", 0, 0)]
        stores[0].refuses = False
        await process.rest()
        assert source.acks == [("orders", 0, 0), ("orders", 0, 1)]
        [entry] = await process.entries(State.DEAD)
        assert entry.message is not None
        assert (entry.reason or "").startswith("conflict: ")
    assert starts == ["k"]
