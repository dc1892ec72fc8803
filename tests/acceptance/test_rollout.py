"""A rolling restart under load, small enough for every run; `make rollout` runs 100,000 messages."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.rollout.campaign import Flow, rollout
from tests.rollout.chart import chart
from tests.services import Kafka
from tests.storm.places import OnPostgres


@pytest.mark.timeout(240)
async def test_workers_come_are_replaced_and_go_while_messages_flow(
    kafka: Kafka, postgres_url: str, tmp_path: Path
) -> None:
    """Mutants: a drain that does not wait for what is in hand; offsets beyond it; partitions given up with work in hand."""
    flow = Flow(messages=3_000, rate=200, most=3)
    seen = await rollout(flow, OnPostgres(tmp_path, postgres_url, kafka.bootstrap), kafka, print)
    print(seen)
    assert seen.books.wrong == [], "none doubled, none lost, none in doubt, every worker ended with 0"
    assert (seen.books.published, seen.books.in_doubt, seen.books.untold) == (flow.messages, 0, 0)
    assert seen.books.handled == seen.books.unique > 2_500
    assert len(seen.stops) == flow.most + flow.most
    assert max(sample.workers for sample in seen.samples) >= flow.most
    assert seen.samples[-1].lag == 0
    ET.fromstring(chart(seen))
