"""A permission that is taken away while a worker runs: it says so, is not ready, and goes on by itself; it is no bug."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from consumer import App, AtMostOnce, Key
from consumer.errors import AccessRefused, SettingsError
from consumer.message import Delivery
from consumer.ports.store import Store
from consumer.worker import intake
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

GRACE = 12.0
"""Seconds: much longer than an end for which nobody waits."""

REFUSAL = "Kafka at broker:9092 refuses access (TopicAuthorizationFailedError): orders"


class Refusing(ListSource):
    """A broker that has taken a permission away."""

    refuses = True
    refused = 0

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        if self.refuses:
            self.refused += 1
            raise SettingsError(REFUSAL)
        return await super().poll(limit, timeout)


def shop() -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order) -> None: ...

    return app


async def test_a_permission_that_is_taken_away_and_given_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutant: a refusal ends the worker."""
    caplog.set_level(logging.INFO, "consumer")
    source = Refusing()
    async with opened(shop(), f"sqlite:///{tmp_path / 'shop.db'}", source=source, observed=True) as at:
        await at.until(lambda: source.refused >= 3)
        assert at.running.runtime.troubles() == ["the broker refuses access: the log says to what"]
        assert at.observed.answer("/readyz")[0] == 503
        assert at.observed.answer("/livez")[0] == 200
        source.refuses = False
        source.add("orders", Order("o-1"))
        await at.until(lambda: source.settled)
        monkeypatch.setattr(intake, "REFUSED_FOR", 0.0)
        assert at.running.runtime.troubles() == []
    assert [state.ack for state in at.watch.of("o-1")] == [True]
    [line] = [r.getMessage() for r in caplog.records if REFUSAL in r.getMessage()]
    assert line.endswith(
        "mend that at the broker: this worker goes on by itself, and is not ready until then"
    )
    assert "bug" not in caplog.text


async def test_what_ends_by_a_refusal_is_no_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The command says it in one line, with exit code 78."""

    async def refused() -> None:
        raise SettingsError(REFUSAL)

    async with opened(shop(), f"sqlite:///{tmp_path / 'shop.db'}") as at:
        runtime = at.running.runtime
        runtime._spawn(refused(), "part")
        with pytest.raises(SettingsError, match="refuses access"):
            await runtime.failed()
        assert runtime.dead() == []
    assert "bug" not in caplog.text
    assert "Traceback" not in caplog.text


class Denied:
    """A store whose administrator has taken a permission away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.inbox: Any = self
        self.denies = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def look(self, keys: Any) -> Any:
        return await self._store.inbox.look(keys)

    async def turn(self, worker: int, settles: Any, claims: Any) -> Any:
        if self.denies:
            raise AccessRefused("store: the role may not do what it must: permission denied for table inbox")
        return await self._store.inbox.turn(worker, settles, claims)


def holding() -> tuple[App, asyncio.Event, asyncio.Event]:
    """An app whose handler sets the first event when it has begun, and returns at the second."""
    app = App("shop")
    entered, leave = asyncio.Event(), asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order) -> None:
        entered.set()
        await leave.wait()

    return app, entered, leave


async def test_a_permission_of_the_store_that_is_taken_away_and_given_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What had started then is settled when it is given back. Mutant: it ends the worker, and leaves this in doubt."""
    app, entered, leave = holding()
    stores: list[Denied] = []

    def wrap(store: Store) -> Store:
        stores.append(Denied(store))
        wrapped: Any = stores[0]
        return wrapped

    url = f"sqlite:///{tmp_path / 'shop.db'}"
    async with opened(app, url, wrap=wrap, observed=True) as at:
        runtime = at.running.runtime
        await at.publish("orders", [Order("o-1")])
        await entered.wait()
        stores[0].denies = True
        leave.set()
        failed = asyncio.create_task(runtime.failed())
        await at.until(lambda: runtime.troubles() or failed.done())
        assert not failed.done(), "the worker goes on"
        assert at.observed.answer("/readyz")[0] == 503
        assert at.observed.answer("/livez")[0] == 200
        stores[0].denies = False
        await at.rest()
        await at.until(lambda: not runtime.troubles())
        assert await at.states() == {"o-1": "done"}
        failed.cancel()
    assert "permission denied for table inbox" in caplog.text
    assert "bug" not in caplog.text


async def test_what_has_started_ends_when_something_beside_the_worker_is_refused(tmp_path: Path) -> None:
    """As at any other end, for as long as `grace` says. Mutant: for a second."""
    app, entered, leave = holding()
    url = f"sqlite:///{tmp_path / 'shop.db'}"

    async def ends() -> None:
        async with opened(app, url, grace=20.0) as at:
            await at.publish("orders", [Order("o-1")])
            await entered.wait()
            # Longer than the second that such an end took once, by far less than the grace.
            asyncio.get_running_loop().call_later(1.5, leave.set)
            raise SettingsError("the port is taken")

    with pytest.raises(SettingsError, match="the port is taken"):
        await ends()
    async with opened(app, url, consume=False, migrate=False) as at:
        assert await at.states() == {"o-1": "done"}


async def test_nobody_is_waited_for_when_nothing_can_settle_any_more(tmp_path: Path) -> None:
    """The part that settles has ended itself: the grace would pass for nothing. Mutant: it passes."""
    app = App("shop")
    entered = asyncio.Event()
    began: list[float] = []

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce(), timeout=60)
    async def order(order: Order) -> None:
        entered.set()
        await asyncio.Event().wait()

    async def ended() -> None:
        raise SettingsError("the tables are newer than this version")

    async def ends() -> None:
        url = f"sqlite:///{tmp_path / 'shop.db'}"
        async with opened(app, url, grace=GRACE) as at:
            await at.publish("orders", [Order("o-1")])
            await entered.wait()
            at.running.runtime._spawn(ended(), "slots")
            began.append(time.monotonic())
            await at.running.runtime.failed()

    with pytest.raises(SettingsError, match="newer"):
        await ends()
    assert time.monotonic() - began[0] < GRACE
