"""Why a process cannot take work now: told by itself, without asking anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from consumer import App, AtMostOnce, Context, Key
from consumer.errors import BrokerUnavailable, ConsumerError, SettingsError
from consumer.message import Outgoing
from consumer.path.routing import Router
from consumer.ports.transport import Lag, Published
from consumer.settings import Settings
from consumer.stores import open_store
from consumer.worker.connect import Connections
from tests.path.kit import Order, RecordingSink, opened
from tests.path.listsource import ListSource


class Gate:
    """An app whose handler waits until a test lets it go."""

    def __init__(self) -> None:
        self.app = App("shop")
        self.entered, self.leave = asyncio.Event(), asyncio.Event()

        @self.app.on("orders", key=Key.field("id"), mode=AtMostOnce(), timeout=60)
        async def order(order: Order) -> None:
            self.entered.set()
            await self.leave.wait()


class Ailing(ListSource):
    """A source that says how it is doing."""

    healthy = True
    rebalances = 3
    troubles: Sequence[str] = ()

    async def lag(self) -> list[Lag]:
        return [Lag("orders", 0, 4, 2.5), Lag("orders", 1, 0, 0.0)]


class AwaySink(RecordingSink):
    """A broker that takes nothing while it is away."""

    away: ConsumerError | None = None

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        if self.away is not None:
            raise self.away
        return await super().publish(messages)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shop.db'}"


async def test_a_message_that_is_in_hand_for_too_long_turns_readiness(url: str) -> None:
    """Mutant: what is in hand is not looked at."""
    gate, source = Gate(), ListSource()
    async with opened(gate.app, url, source=source, observed=True, unfinished_limit=1.0) as shop:
        assert shop.running.runtime.troubles() == []
        source.add("orders", Order("slow"))
        await gate.entered.wait()
        await shop.until(shop.running.runtime.troubles)
        [reason] = shop.running.runtime.troubles()
        assert reason.startswith("a message has been in hand for ")
        assert shop.observed.answer("/readyz")[0] == 503
        assert shop.observed.answer("/livez")[0] == 200
        gate.leave.set()
        await shop.rest()
        await shop.until(lambda: not shop.running.runtime.troubles())


async def test_by_itself_the_limit_is_far_beyond_every_time_out(url: str) -> None:
    async with opened(Gate().app, url, source=ListSource()) as shop:
        assert shop.running.runtime._unfinished_limit() == 600 + 2 * 60


async def test_a_broker_that_is_away_turns_readiness(url: str) -> None:
    source = Ailing()
    async with opened(Gate().app, url, source=source, observed=True) as shop:
        assert shop.observed.answer("/readyz")[0] == 200
        source.healthy = False
        assert shop.running.runtime.troubles() == [
            "the broker does not answer, or a partition cannot be read"
        ]
        source.troubles = [
            "orders/0: the record at offset 7 cannot be read",
            "topic mails does not exist any more",
        ]
        assert shop.running.runtime.troubles() == list(source.troubles), "what the source knows is said"
        status, _, told = shop.observed.answer("/readyz")
        assert status == 503
        assert b"orders/0: the record at offset 7 cannot be read" in told
        assert shop.observed.answer("/livez")[0] == 200
        source.healthy = True
        assert shop.running.runtime.troubles() == []


async def test_the_source_s_lag_is_told(url: str) -> None:
    async with opened(Gate().app, url, source=Ailing(), observed=True) as shop:
        await shop.running.runtime.figures.look()
        samples = shop.observed.samples()
    assert samples["consumer_lag_messages"] == [(("orders", "0"), 4), (("orders", "1"), 0)]
    assert samples["consumer_lag_seconds"] == [(("orders",), 2.5)]
    assert samples["consumer_rebalances_total"] == [((), 3)]


@pytest.mark.parametrize(
    "away", [BrokerUnavailable("nobody answers"), SettingsError("refuses access")], ids=["away", "refuses"]
)
async def test_a_relay_whose_broker_takes_nothing_is_not_ready(url: str, away: ConsumerError) -> None:
    """Mutant: a refusal ends the relay."""
    app, sink = App("shop"), AwaySink()
    sink.away = away

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order, ctx: Context) -> None:
        ctx.publish("mails", b"{}")

    async with opened(app, url, sink=sink) as shop:
        await shop.publish("orders", [Order("o-1")])
        await shop.until(lambda: shop.watch.of("o-1"))
        await shop.until(lambda: shop.running.runtime.relay and shop.running.runtime.relay.broker_away)
        assert shop.running.runtime.troubles() == [], "a worker can take work all the same"

    store, handlers = open_store(url, app.name), app.handlers.declared
    connections = Connections(store, None, None, sink, Router(app.name, handlers, frozenset()))
    async with app.running(
        Settings(store=url), consume=False, relay=True, connections=connections
    ) as running:
        runtime = running.runtime
        async with asyncio.timeout(20):
            while not runtime.troubles():  # noqa: ASYNC110 - a relay tells nobody
                await asyncio.sleep(0.02)
            assert runtime.troubles() == ["the broker does not take what is in the outbox"]
            sink.away = None
            while runtime.troubles():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
    assert [message.topic for message in sink.published] == ["mails"]
