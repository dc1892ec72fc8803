"""A permission that is taken away while a worker runs: it says so, is not ready, and goes on by itself; it is no bug."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from consumer import App, AtMostOnce, Key
from consumer.errors import SettingsError
from consumer.message import Delivery
from consumer.worker import intake
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

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
