"""Handlers' retention beside topics': refused at the start, or a dead letter instead of a second run."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from consumer import App, AtMostOnce, Key, Settings
from consumer.brokers.kafka import KafkaSource
from consumer.entry import State
from consumer.errors import SettingsError
from consumer.settings import first_position
from consumer.stores import open_store
from consumer.worker.wiring import SystemClock
from tests.integration.kafka_tools import eventually, has_committed, member, produce, producer
from tests.services import Kafka

DAY = 86_400_000


class Note(Struct):
    id: str


def shop(topic: str, ran: list[str], retention: timedelta) -> App:
    app = App("shop")

    @app.on(topic, key=Key.field("id"), mode=AtMostOnce(), retention=retention)
    async def take(note: Note) -> None:
        ran.append(note.id)

    return app


async def settings(kafka: Kafka, path: Path, topic: str, app: App) -> Settings:
    how = Settings(store=f"sqlite:///{path}/s.db", broker=f"kafka://{kafka.bootstrap}", consumer_group=topic)
    store = open_store(how.store, app.name)
    try:
        await store.migrate()
    finally:
        await store.close()
    return how


async def test_a_handler_that_forgets_before_its_topic_is_refused(kafka: Kafka, tmp_path: Path) -> None:
    topic = await kafka.fresh_topic(retention_ms=str(7 * DAY))
    app = shop(topic, [], timedelta(days=2))
    how = await settings(kafka, tmp_path, topic, app)
    with pytest.raises(SettingsError) as error:
        async with app.running(how, consume=True):
            pass
    for part in (
        "for 7 days",
        "after 2 days",
        "retention=timedelta(seconds=604800)",
        "retention.ms to 172800000",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("config", [{"retention_ms": "-1"}, {"cleanup_policy": "compact"}])
async def test_a_topic_without_a_limit_is_worth_a_warning(
    kafka: Kafka, tmp_path: Path, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    topic = await kafka.fresh_topic(**config)
    app = shop(topic, [], timedelta(days=2))
    how = await settings(kafka, tmp_path, topic, app)
    async with app.running(how, consume=True):
        pass
    assert f"topic {topic} keeps its messages without limit" in caplog.text


async def test_a_message_whose_key_may_be_forgotten_is_a_dead_letter(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await kafka.fresh_topic(message_timestamp_type="LogAppendTime", retention_ms=str(2 * DAY))
    ran: list[str] = []
    app = shop(topic, ran, timedelta(days=2))
    how = await settings(kafka, tmp_path, topic, app)
    later = 3 * 86_400.0
    monkeypatch.setattr(SystemClock, "time", lambda _: time.time() + later)
    await produce(kafka.bootstrap, topic, [b'{"id":"old"}'])
    async with app.running(how, consume=True) as running:
        operator = running.runtime.store.operator

        async def dead() -> bool:
            return bool(await operator.entries(app="shop", states=[State.DEAD]))

        await eventually(dead, "the old one is a dead letter")
        later = 0.0
        await produce(kafka.bootstrap, topic, [b'{"id":"new"}'])
        await eventually(lambda: ran, "the new one runs")
        [entry] = await operator.entries(app="shop", states=[State.DEAD])
    assert ran == ["new"]
    assert (entry.reason or "").startswith("too_old: ")
    assert entry.key == f"{topic}/0/0".encode()


async def test_a_producer_s_clock_makes_nothing_too_old(kafka: Kafka, tmp_path: Path) -> None:
    topic = await kafka.fresh_topic(retention_ms="-1")
    ran: list[str] = []
    app = shop(topic, ran, timedelta(days=2))
    how = await settings(kafka, tmp_path, topic, app)
    async with producer(kafka.bootstrap) as one:
        await one.send_and_wait(topic, b'{"id":"a"}', timestamp_ms=1_000)
    async with app.running(how, consume=True):
        await eventually(lambda: ran == ["a"], "it runs")


# --- where a new group begins -----------------------------------------------------------------------------------------


async def test_a_new_group_begins_at_a_time(kafka: Kafka) -> None:
    topic = await kafka.fresh_topic(retention_ms="-1")
    async with producer(kafka.bootstrap) as one:
        for second in (10, 20, 30):
            await one.send_and_wait(topic, b"%d" % second, timestamp_ms=second * 1000)
    begin = first_position("1970-01-01T00:00:15Z")
    source = KafkaSource(kafka.bootstrap, topic, first_position=begin)
    async with member(source, topic) as one_of_us:
        await one_of_us.has(2)
        assert one_of_us.values == [b"20", b"30"]
    later = KafkaSource(kafka.bootstrap, f"{topic}-later", first_position=31.0)
    async with member(later, topic, acks=lambda _: True) as one_of_us:
        await has_committed(kafka.bootstrap, f"{topic}-later", {0: 3})
        await produce(kafka.bootstrap, topic, [b"new"])
        await one_of_us.has(1)
        assert one_of_us.values == [b"new"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("1767225600", 1_767_225_600.0),
        ("1767225600.5", 1_767_225_600.5),
        ("2026-01-01", 1_767_225_600.0),
        ("2026-01-01T00:00:00Z", 1_767_225_600.0),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600.0),
    ],
)
def test_positions(text: str, expected: object) -> None:
    assert first_position(text) == expected


@pytest.mark.parametrize("text", ["", "oldest", "1767225600000", "-1", "2026-13-01", "nan"])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(SettingsError, match="must be earliest, latest, an ISO 8601 time"):
        first_position(text)
