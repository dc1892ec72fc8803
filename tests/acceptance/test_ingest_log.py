"""What `consumer ingest` says on stderr of the calls that it runs itself."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.acceptance.conftest import SQLITE
from tests.acceptance.ingesting import Ingest, pay
from tests.acceptance.worlds import World

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("empty_world", [SQLITE], indirect=True)
async def test_a_payment_that_is_refused_for_good_is_a_warning(empty_world: World) -> None:
    """As `consumer run` says it. Mutant: nobody sees the endings of the ingest."""
    with Ingest(empty_world.shop, "--port", "0").await_ready() as ingest:
        assert (await pay(ingest.port, "p-1")).status == 201
        assert (await pay(ingest.port, "p-2", account="blocked")).status == 422
        assert await asyncio.to_thread(ingest.terminate) == 0, ingest.log
        lines = [json.loads(line) for line in ingest.log.splitlines()]
    endings = [line for line in lines if line["logger"] == "consumer.endings"]
    assert len(endings) == 1
    said = endings[0]
    assert said["level"] == "warning"
    assert said["message"] == "payments.requested: dead: account blocked"
    assert {"handler", "tenant", "key_hash", "attempt", "state"} <= said.keys()
    assert (said["handler"], said["state"]) == ("payments.requested", "dead")
