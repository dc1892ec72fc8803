"""The image, run by testcontainers as the chart runs it, on real Kafka and Postgres. `make image` builds it.

Where there is no Docker daemon or no image these are skipped, and say so; `REQUIRE_IMAGE=1` makes that a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.shop import committed, fresh_shop_topics, produce, rows, until
from tests.services import Kafka
from tests.services.base import free_port

IMAGE = os.environ.get("CONSUMER_IMAGE", "consumer:dev")
GRACE = 25
CONFINED = {
    "network_mode": "host",  # where the servers listen, and a daemon without a bridge works too
    "read_only": True,
    "user": "10001:10001",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "384m",
    "pids_limit": 128,
}


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    try:
        found = subprocess.run(
            ["docker", "image", "inspect", IMAGE], capture_output=True, text=True, timeout=20, check=False
        )
        reason = found.stderr.strip() if found.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as fault:
        reason = str(fault)
    if reason and os.environ.get("REQUIRE_IMAGE") == "1":
        pytest.fail(f"{IMAGE}: {reason}", pytrace=False)
    if reason:
        pytest.skip(f"{IMAGE}: {reason}")


@contextmanager
def container(*command: str, **environment: str) -> Iterator[Any]:
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # it would be pulled
    from testcontainers.core.container import DockerContainer

    made = DockerContainer(IMAGE).with_command(list(command)).with_kwargs(**CONFINED)
    made.tmpfs["/tmp"] = "rw,noexec,nosuid,size=64m"
    for name, value in environment.items():
        made.with_env(name, value)
    with made:
        yield made.get_wrapped_container()


def said(inner: Any) -> str:
    return str(inner.logs().decode())


def asked(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code
    except OSError:
        return 0


@pytest.mark.timeout(180)
async def test_a_worker_takes_payments_and_ends_within_its_grace(kafka: Kafka, postgres_url: str) -> None:
    await fresh_shop_topics(kafka)
    where = {"CONSUMER_STORE": postgres_url, "CONSUMER_BROKER": f"kafka://{kafka.bootstrap}"}
    port = free_port()
    with container("migrate", "handlers.app:app", **where) as migrate:
        assert migrate.wait(timeout=60)["StatusCode"] == 0, said(migrate)
    group = f"image-{port}"
    run = ("run", "handlers.app:app", "--group", group, "--health-port", str(port), "--grace", str(GRACE))
    with container(*run, **where, HEALTH_PORT=str(port)) as worker:

        async def ready() -> bool:
            return asked(port, "/readyz") == 200

        await until(ready, 60, lambda: f"/readyz\n{said(worker)}")
        assert (asked(port, "/livez"), asked(port, "/startupz"), asked(port, "/metrics")) == (200, 200, 200)
        payments = [
            {"payment_id": f"image-{n}", "account": "a", "amount": n + 1, "currency": "EUR"}
            for n in range(200)
        ]
        records = [(None, json.dumps(payment).encode()) for payment in [*payments, *payments]]
        await produce(kafka.bootstrap, "payments.requested", records)

        async def settled() -> bool:
            [[count]] = await rows(
                postgres_url,
                "select count(*) from consumer_inbox where handler = 'payments.settled' and state = 4",
            )
            return bool(count == len(payments))

        await until(settled, 90, lambda: said(worker))
        assert worker.exec_run(["touch", "/app/x"]).exit_code != 0, "its root can be written"
        assert worker.exec_run(["id", "-u"]).output.strip() == b"10001"
        worker.stop(timeout=GRACE + 20)
        assert worker.wait(timeout=10)["StatusCode"] == 0, said(worker)
    [[count]] = await rows(postgres_url, "select count(*) from ledger")
    assert count == len(payments), "each once"
    offsets = await committed(kafka.bootstrap, group)
    taken = sum(end for (topic, _), end in offsets.items() if topic == "payments.requested")
    assert taken == len(records), "and all of them acknowledged when it ended"


@pytest.mark.timeout(120)
async def test_a_worker_whose_store_is_away_lives_and_is_not_ready(kafka: Kafka) -> None:
    """An outage must not restart the workers: each restart would be another rebalance."""
    port, nobody = free_port(), free_port()
    where = {
        "CONSUMER_STORE": f"postgresql://postgres@127.0.0.1:{nobody}/none",
        "CONSUMER_BROKER": f"kafka://{kafka.bootstrap}",
    }
    with container("run", "handlers.app:app", "--health-port", str(port), **where) as worker:

        async def lives() -> bool:
            return asked(port, "/livez") == 200

        await until(lives, 60, lambda: f"/livez\n{said(worker)}")
        assert asked(port, "/readyz") == 503
        worker.stop(timeout=20)
        assert worker.wait(timeout=10)["StatusCode"] == 0, said(worker)
