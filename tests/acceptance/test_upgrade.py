"""A schema one step ahead, as during an upgrade: who runs goes on, who starts is told (docs/operations.md)."""

from __future__ import annotations

import pytest

from tests.acceptance.looks import come_to, ledger, payment
from tests.acceptance.worlds import World

KAFKA = "kafka+postgres"
TTL = "2"
MESSAGES = 30


@pytest.mark.timeout(150)
@pytest.mark.parametrize("empty_world", [KAFKA], indirect=True)
async def test_a_step_ahead(empty_world: World) -> None:
    """Mutant: the sign of life is renewed on a connection that looks at the schema again."""
    world = empty_world
    old = world.shop.start("--worker-ttl", TTL)
    await world.send("payments.requested", [payment("before")])
    await come_to(world, "payments.settled", "before", "done")
    await world.query(
        "insert into consumer_schema (version, step) select max(version) + 1, 'of a later release'"
        " from consumer_schema returning version"
    )
    refused = world.shop.command("run", world.shop.app)
    assert refused.returncode == 78, refused.stderr
    assert "newer" in refused.stderr
    for number in range(MESSAGES):
        await world.send("payments.requested", [payment(f"after-{number}.")])
        await come_to(world, "payments.settled", f"after-{number}.", "done")
        assert len(await ledger(world, f"after-{number}.")) == 1
    assert world.shop.terminate(old) == 0, world.shop.logs()
