"""Metrics of real processes, on Kafka and Postgres: scraped by hand, and by a real Prometheus that answers our queries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from consumer.observe.families import FAMILIES
from tests.acceptance.conftest import KAFKA, POSTGRES
from tests.acceptance.looks import come_to, payment
from tests.acceptance.shop import ROOT, produce
from tests.acceptance.test_health import asked, forged, serving
from tests.acceptance.worlds import KafkaOnPostgres, World
from tests.services import required
from tests.services.ports import free_port

pytestmark = pytest.mark.timeout(150)

DEPLOY = ROOT / "deploy"
NAMESPACE = "test"

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(port: int) -> Series:
    status, text = asked(port, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; NaN, which equals nothing, where there is none."""
    wanted = set(labels.items())
    found = [v for (n, pairs), v in series.items() if n == name and wanted <= set(pairs)]
    return sum(found) if found else math.nan


async def until(port: int, condition: Any, seconds: float = 30) -> Series:
    """Wait until the scrape fulfils a condition: figures of store and broker come every 10 s."""
    deadline = time.monotonic() + seconds
    while not condition(found := await asyncio.to_thread(scraped, port)):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.2)
    return found


async def stream(world: World) -> None:
    """10 payments, 3 of them twice, one with another amount, one for a blocked account, one that is no JSON; receipts."""
    payments = [payment(f"p-{i}") for i in range(10)]
    await world.send("payments.requested", [*payments, *payments[:3]])
    await come_to(world, "payments.requested", "p-", *["done"] * 10)
    changed = {**payment("p-0"), "amount": 999_999}
    refused = {**payment("b-1"), "account": "blocked"}
    await world.send("payments.requested", [changed, refused, b"{"])
    await world.send("receipts.send", [{"receipt_id": "r-1", "payment_id": "p-1", "fail_times": 9}])
    await world.send("notifications.send", [{"notification_id": "n-1", "to": "x", "text": "unknown"}])


@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_a_worker_tells_what_it_has_done_and_what_waits(empty_world: World) -> None:
    """Mutant: the lag is that of the committed offsets, so what hangs in hand is not behind."""
    world, port = empty_world, free_port()
    worker = world.shop.start("--health-port", str(port))
    await stream(world)

    def ended(series: Series) -> bool:
        payments = {"handler": "payments.requested"}
        return (
            value(series, "consumer_outcomes_total", outcome="duplicate", **payments) == 3
            and value(series, "consumer_outcomes_total", outcome="dead", **payments) == 2
            and value(series, "consumer_outcomes_total", outcome="conflict", **payments) == 1
            and value(series, "consumer_entries", state="done", **payments) == 10
            and value(series, "consumer_entries", state="dead", **payments) == 3
            and value(series, "consumer_running", handler="notifications.send") == 1
            and value(series, "consumer_lag_messages", topic="notifications.send") == 1
            and value(series, "consumer_lag_seconds", topic="notifications.send") > 1
            and value(series, "consumer_published_total") == 10
        )

    series = await until(port, ended)
    assert value(series, "consumer_outcomes_total", handler="payments.requested", outcome="done") == 10
    assert value(series, "consumer_end_to_end_seconds_count", handler="payments.requested") == 10
    assert 0 < value(series, "consumer_end_to_end_seconds_sum", handler="payments.requested") < 300
    assert value(series, "consumer_handler_seconds_count", handler="payments.requested") == 11, (
        "a refusal ran"
    )
    assert value(series, "consumer_lag_messages", topic="payments.requested") == 0
    assert value(series, "consumer_lag_seconds", topic="payments.requested") == 0
    assert value(series, "consumer_rebalances_total") >= 1
    assert value(series, "consumer_outbox_backlog") == 0
    assert value(series, "consumer_ready") == 1
    assert value(series, "consumer_build_info") == 1
    world.shop.kill(worker)  # its handler never returns


@pytest.mark.parametrize("empty_world", [POSTGRES], indirect=True)
async def test_a_death_is_counted_by_who_finds_it(empty_world: World) -> None:
    """Mutants: a lapse is not counted, or by every sweep that sees the dead worker; adopted entries are not counted."""
    world, port = empty_world, free_port()
    dies = world.shop.start("--worker-ttl", "2")
    hanging = [{"notification_id": f"n-{i}", "to": "x", "text": "unknown"} for i in range(3)]
    await world.send("notifications.send", hanging)
    await come_to(world, "notifications.send", "n-", *["running"] * 3)
    finds = world.shop.start("--health-port", str(port))  # one that hardly lapses itself
    world.shop.kill(dies)
    await come_to(world, "notifications.send", "n-", *["in_doubt"] * 3)
    handler = {"handler": "notifications.send"}
    series = await until(port, lambda s: value(s, "consumer_entries", state="in_doubt", **handler) == 3)
    assert value(series, "consumer_worker_lapses_total") == 1
    assert value(series, "consumer_outcomes_total", outcome="in_doubt", **handler) == 3
    assert value(series, "consumer_oldest_entry_seconds", state="in_doubt", **handler) > 0
    assert world.shop.terminate(finds) == 0


@contextmanager
def prometheus(folder: Path, targets: list[int]) -> Iterator[int]:
    """A Prometheus that scrapes these ports every second, with our alerts."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "alerts" / "consumer.yaml")],
        "scrape_configs": [
            {
                "job_name": "consumer",
                "static_configs": [{"targets": [f"127.0.0.1:{target}" for target in targets]}],
                "relabel_configs": [
                    {"target_label": "namespace", "replacement": NAMESPACE},
                    {"source_labels": ["__address__"], "target_label": "pod"},
                ],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("w") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        server.terminate()
        server.wait(20)


def answered(port: int, query: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as reply:
        answer = json.load(reply)
    assert answer["status"] == "success", answer
    result: list[Any] = answer["data"]["result"]
    return result


async def become(port: int, query: str, wanted: float, seconds: float = 40) -> None:
    """Wait until Prometheus answers a query with this one value."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while found != wanted:
        assert time.monotonic() < deadline, f"{query}: {found}"
        await asyncio.sleep(0.2)
        with contextlib.suppress(urllib.error.URLError):  # it does not listen yet
            found = [float(each["value"][1]) for each in await asyncio.to_thread(answered, port, query)]
            found = found[0] if len(found) == 1 else found


def panels() -> list[tuple[str, str]]:
    """The dashboard's queries as Grafana sends them, by the panel's title."""
    dashboard = json.loads((DEPLOY / "dashboards" / "consumer.json").read_text(encoding="utf-8"))
    instead = {"$namespace": NAMESPACE, "$handler": ".*", "$__rate_interval": "30s"}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, text in instead.items():
                query = query.replace(variable, text)
            found.append((panel["title"], query))
    return found


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((DEPLOY / "alerts" / "consumer.yaml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.mark.skipif(
    shutil.which("prometheus") is None and not required(),
    reason="Debian's package prometheus is not installed",
)
@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_a_real_prometheus_answers_the_dashboard_and_the_alerts(empty_world: World) -> None:
    """Every panel has something to show, and the alerts that are due are those that fire."""
    world = empty_world
    assert isinstance(world, KafkaOnPostgres)
    port, ingest_port = free_port(), free_port()
    worker = world.shop.start("--health-port", str(port))
    with (
        serving(world.shop, ingest_port),
        prometheus(world.shop.folder, [port, ingest_port]) as asks,
    ):
        await become(asks, "sum(up)", 2)  # what happens before the first scrape is no increase
        assert forged(ingest_port) == 401
        await stream(world)
        await until(
            port, lambda s: value(s, "consumer_entries", state="dead", handler="payments.requested") == 3
        )
        # A few more, so that there are two scrapes between which a counter has moved.
        records: list[tuple[bytes | None, bytes | None]] = [
            (None, json.dumps(payment(f"q-{i}")).encode()) for i in range(50)
        ]
        await produce(world.bootstrap, "payments.requested", records)
        await come_to(world, "payments.requested", "q-", *["done"] * 50)
        await become(asks, 'sum(consumer_outcomes_total{handler="payments.requested",outcome="done"})', 60)
        empty = [title for title, query in panels() if not await asyncio.to_thread(answered, asks, query)]
        assert empty == [], "panels without a series"
        due = {name for name, query in alerts().items() if await asyncio.to_thread(answered, asks, query)}
        for family in FAMILIES:
            name = f"{family.name}_count" if family.kind.value == "histogram" else family.name
            assert await asyncio.to_thread(answered, asks, name), f"{name} was not scraped"
    # A machine that is busy enough holds a loop for a second.
    assert due - {"ConsumerLoopBlocked"} == {"ConsumerDeadLetters"}
    world.shop.kill(worker)


def test_somebody_looks_at_every_metric() -> None:
    """What the dashboard and the alerts ask for is compared with the table in tests/deploy/test_files.py."""
    asked_for = " ".join([*(query for _, query in panels()), *alerts().values()])
    assert [family.name for family in FAMILIES if family.name not in asked_for] == []
