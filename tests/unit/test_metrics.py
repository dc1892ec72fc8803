"""What is counted, and how it is told: names, labels, zeros, and a page that is made of the same table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer import App, AtLeastOnce, AtMostOnce, Key
from consumer.entry import Landed, State
from consumer.message import Message
from consumer.observe.families import FAMILIES, OUTCOMES, Outcome
from consumer.observe.metrics_page import metrics_page
from consumer.observe.observed import Observed
from consumer.observe.tally import HANDLER, Histogram, Tally
from consumer.path.keying import Unkeyed, born_dead, envelope_of, landing_of
from consumer.path.parts import Ending, Work
from consumer.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


class Order(msgspec.Struct):
    id: str


def shop() -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce())
    async def order(order: Order) -> None: ...

    @app.on("mails", key=Key.field("id"), mode=AtLeastOnce())
    async def mail(order: Order) -> None: ...

    return app


def work_of(app: App, topic: str = "orders", timestamp: float | None = None) -> Work:
    [handler] = [each for each in app.handlers.declared if topic in each.topics]
    envelope = envelope_of(app.name, handler, Message(topic, b'{"id":"o-1"}', timestamp=timestamp))
    assert not isinstance(envelope, Unkeyed)
    return Work(handler, envelope)


def series(observed: Observed) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, _, body = observed.answer("/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (Ending(State.DONE, ack=True), "done"),
        (Ending(State.WAITING, ack=True, delay=1.0), "waiting"),
        (Ending(State.DEAD, ack=True), "dead"),
        (Ending(State.IN_DOUBT, ack=True), "in_doubt"),
        (Ending(State.RUNNING, ack=False), "lost"),
        (Ending(State.ABSENT, ack=True), "released"),
        (Ending(State.DONE, ack=True, duplicate=True), "duplicate"),
        (Ending(State.WAITING, ack=True, duplicate=True), "duplicate"),
        (Ending(State.DEAD, ack=True, duplicate=True, conflict=True), "conflict"),
        (Ending(State.DEAD, ack=False, duplicate=True, conflict=True), "conflict"),
    ],
)
def test_an_ending_is_counted_as_one_outcome(ending: Ending, outcome: str) -> None:
    app = shop()
    tally = Tally(app.handlers.declared)
    tally.ended(work_of(app), ending, 0.5)
    counted = dict(zip(OUTCOMES, tally.handlers["orders"].outcomes, strict=True))
    assert counted == {word: int(word == outcome) for word in OUTCOMES}
    ran = not ending.duplicate
    assert sum(tally.handlers["orders"].seconds.counts) == ran, "only what has run has a time"
    assert not any(tally.handlers["mails"].outcomes)


def test_a_delivery_that_is_asked_about_again_is_counted_when_it_has_ended() -> None:
    app = shop()
    tally = Tally(app.handlers.declared)
    for _ in range(5):
        tally.ended(work_of(app), Ending(State.RUNNING, ack=False, duplicate=True), 0.0)
    assert sum(tally.handlers["orders"].outcomes) == 0
    tally.ended(work_of(app), Ending(State.DONE, ack=True, duplicate=True), 0.0)
    assert tally.handlers["orders"].outcomes[Outcome.DUPLICATE] == 1


@pytest.mark.parametrize(
    ("landed", "outcome"),
    [(Landed.NEW, None), (Landed.DUPLICATE, "duplicate"), (Landed.CONFLICT, "conflict")],
)
def test_landings_are_counted_where_they_start_nothing(landed: Landed, outcome: str | None) -> None:
    app = shop()
    tally, work = Tally(app.handlers.declared), work_of(app)
    tally.arrived(landing_of(app.name, work.handler, work.envelope), landed)
    counted = dict(zip(OUTCOMES, tally.handlers["orders"].outcomes, strict=True))
    assert counted == {word: int(word == outcome) for word in OUTCOMES}


def test_what_cannot_be_keyed_is_dead_once_however_often_it_comes() -> None:
    app = shop()
    tally, [handler, _] = Tally(app.handlers.declared), app.handlers.declared
    landing = born_dead(app.name, handler, Message("orders", b"{"), Unkeyed("decode", "no JSON"))
    tally.arrived(landing, Landed.NEW)
    tally.arrived(landing, Landed.DUPLICATE)
    assert tally.handlers["orders"].outcomes[Outcome.DEAD] == 1
    assert tally.handlers["orders"].outcomes[Outcome.DUPLICATE] == 1


def test_end_to_end_is_told_of_messages_that_a_broker_has_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.observe.tally.time.time", lambda: 1_000.0)
    app = shop()
    tally = Tally(app.handlers.declared)
    tally.ended(work_of(app), Ending(State.DONE, ack=True), 0.0)
    tally.ended(work_of(app, timestamp=997.0), Ending(State.DONE, ack=True), 0.0)
    tally.ended(work_of(app, timestamp=1_002.0), Ending(State.DONE, ack=True), 0.0)  # a clock that is ahead
    tally.ended(work_of(app, timestamp=900.0), Ending(State.WAITING, ack=True), 0.0)
    assert sum(tally.handlers["orders"].end_to_end.counts) == 2
    assert tally.handlers["orders"].end_to_end.total == 3.0


def test_bounds_are_upper_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 14.0


def test_every_outcome_of_every_handler_is_there_from_the_start() -> None:
    found = series(shop().observed(Settings()))
    for handler, mode in (("orders", "AtMostOnce"), ("mails", "AtLeastOnce")):
        for outcome in OUTCOMES:
            labels = (("handler", handler), ("mode", mode), ("outcome", outcome))
            assert found["consumer_outcomes_total", labels] == 0.0
        assert found["consumer_handler_seconds_count", (("handler", handler),)] == 0.0
    assert found["consumer_ready", ()] == 0.0, "it is not open"


def test_a_histogram_is_told_with_rising_counts() -> None:
    app = shop()
    observed = app.observed(Settings())
    for seconds in (0.0004, 0.004, 0.004, 400.0):
        observed.ended(work_of(app), Ending(State.DONE, ack=True), seconds)
    found = series(observed)
    told = [
        found["consumer_handler_seconds_bucket", (("handler", "orders"), ("le", le))]
        for le in [*map(str, HANDLER), "+Inf"]
    ]
    assert told == [1, 1, 3, *[3] * 13, 4]
    assert found["consumer_handler_seconds_count", (("handler", "orders"),)] == 4
    assert found["consumer_handler_seconds_sum", (("handler", "orders"),)] == pytest.approx(400.0084)


def test_without_prometheus_client_counting_goes_on_and_the_scrape_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    app = shop()
    observed = app.observed(Settings())
    observed.ended(work_of(app), Ending(State.DONE, ack=True), 0.1)
    status, kind, body = observed.answer("/metrics")
    assert (status, kind) == (501, "text/plain; charset=utf-8")
    assert body == b"metrics need prometheus-client: pip install 'idempotent-consumer[metrics]'\n"


def test_names_keep_prometheus_conventions() -> None:
    for family in FAMILIES:
        assert family.name.startswith("consumer_")
        assert (family.kind.value == "counter") == family.name.endswith("_total")
        assert not {"key", "tenant", "reason"} & set(family.labels), "their number has no bound"
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == metrics_page(), (
        "python -m consumer.observe.metrics_page > docs/metrics.md"
    )


class Other:
    """Another observer, told too."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ended(self, work: Work, ending: Ending, seconds: float) -> None:
        self.told.append((ending.state, seconds))

    def arrived(self, landing: Any, landed: Landed) -> None:
        self.told.append(landed)


def test_another_observer_is_told_too() -> None:
    app, other = shop(), Other()
    observed, work = app.observed(Settings(), other), work_of(app)
    observed.ended(work, Ending(State.DEAD, ack=True), 0.25)
    observed.arrived(landing_of(app.name, work.handler, work.envelope), Landed.NEW)
    assert other.told == [(State.DEAD, 0.25), Landed.NEW]
