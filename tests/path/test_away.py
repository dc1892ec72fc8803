"""A store that is away: readiness turns within seconds, callers are told at once, and the log says its edge and its end."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from consumer import App, AtMostOnce, Key
from consumer.errors import BrokerUnavailable, StoreUnavailable, WritesRefused
from consumer.path.away import CALM, KNOWN_AFTER, SAY_EVERY, UNWRITTEN_FOR, Away
from tests.path.kit import Order, opened
from tests.path.weather import Weather

GONE = StoreUnavailable("PostgreSQL: nobody listens")


class Hands:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "consumer.store")
    return caplog


def test_an_outage_is_said_at_its_edge_then_now_and_then_and_at_its_end(
    said: pytest.LogCaptureFixture,
) -> None:
    """Mutant: every refusal is a line."""
    clock = Hands()
    away = Away(clock)
    away.answered()
    for _ in range(100):  # four times a second, from lanes and slots: 50 s
        away.refused(GONE)
        away.refused(GONE)
        clock.now += 0.5
    away.answered()
    away.answered()
    assert said.messages == [
        "the store does not answer, nothing starts: PostgreSQL: nobody listens",
        f"the store has not answered for {SAY_EVERY:.0f} s, nothing starts: PostgreSQL: nobody listens",
        "the store answers again, after 50.0 s",
    ]


def test_a_store_that_answers_every_other_call_floods_nothing(said: pytest.LogCaptureFixture) -> None:
    clock = Hands()
    away = Away(clock)
    for _ in range(40):
        away.refused(GONE)
        clock.now += 0.1
        away.answered()
    assert len(said.messages) == 2, "4 s: one edge and its end"
    clock.now += CALM
    away.refused(GONE)
    assert len(said.messages) == 3


def test_one_lost_connection_is_no_outage() -> None:
    clock = Hands()
    away = Away(clock)
    away.refused(GONE)
    assert (away.known, away.seconds) == (False, 0.0)
    clock.now += KNOWN_AFTER
    away.refused(GONE)
    assert (away.known, away.seconds) == (True, KNOWN_AFTER), "it counts from the first refusal"
    away.answered()
    assert (away.known, away.seconds) == (False, 0.0)


def test_a_store_that_answers_looks_and_takes_no_write_is_one_outage(said: pytest.LogCaptureFixture) -> None:
    """As an SQLite file whose lock somebody holds: each write waits for it in vain, each look is answered."""
    clock = Hands()
    away = Away(clock)
    for _ in range(6):
        away.refused(WritesRefused("the lock is held"))
        clock.now += 5.5
        away.answered(wrote=False)
        assert away.known
    away.answered()
    assert not away.known
    assert said.messages == [
        "the store does not answer, nothing starts: the lock is held",
        "the store answers again, after 33.0 s",
    ]


def test_what_a_store_does_not_write_is_forgotten_where_nobody_writes() -> None:
    """Who is not ready is sent no writes, so looks must be believed again some time."""
    clock = Hands()
    away = Away(clock)
    away.refused(WritesRefused("the disk is full"))
    clock.now += UNWRITTEN_FOR - 0.1
    away.answered(wrote=False)
    assert away.known
    clock.now += 0.2
    away.answered(wrote=False)
    assert not away.known


@pytest.mark.parametrize("fault", [GONE, WritesRefused("full")])
def test_a_write_that_is_taken_ends_every_outage(fault: StoreUnavailable) -> None:
    clock = Hands()
    away = Away(clock)
    away.refused(fault)
    clock.now += KNOWN_AFTER
    assert away.known
    away.answered()
    assert away.seconds == 0


async def test_readiness_turns_long_before_the_sign_of_life_is_too_old(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    """Mutant: refusals do not turn readiness. The sign of life goes another way here, so only refusals can."""
    app = App("shop")
    ran: list[str] = []

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order) -> str:
        ran.append(order.id)
        return "taken"

    weather = Weather()
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    async with opened(app, url, wrap=weather.wrap, observed=True, worker_ttl=60) as shop:
        runtime = shop.running.runtime
        assert shop.observed.answer("/readyz")[0] == 200
        weather.down = True
        try:
            for _ in range(20):  # a few a second
                await weather.next_refusal()
                if runtime.troubles():
                    break
            assert len(runtime.troubles()) == 1
            [reason] = runtime.troubles()
            assert reason.startswith("the store has not answered for ")
            assert shop.observed.answer("/readyz")[0] == 503
            assert shop.observed.answer("/livez")[0] == 200, "a new process would not bring it back"
            assert not runtime.ready
            with pytest.raises(BrokerUnavailable, match="not ready"):
                await shop.running.call(order, Order("o-1"))
        finally:
            weather.down = False
        await shop.until(lambda: not runtime.troubles())
        assert await shop.running.call(order, Order("o-1")) == "taken"
    assert ran == ["o-1"]
    own = [record.getMessage() for record in said.records if record.name == "consumer.store"]
    assert [message.split(",")[0] for message in own] == [
        "the store does not answer",
        "the store answers again",
    ]
