"""What tests ask of a deployment again and again."""

from __future__ import annotations

from typing import Any

from tests.acceptance.shop import until
from tests.acceptance.worlds import World

__all__ = ["come_to", "ledger", "payment", "states", "told"]

STATES = ["", "received", "running", "waiting", "done", "in_doubt", "dead"]


def payment(key: str, **other: Any) -> dict[str, Any]:
    return {"payment_id": key, "account": "alice", "amount": 1250, "currency": "EUR"} | other


async def states(world: World, handler: str, like: str) -> list[str]:
    """The states of a handler's entries whose key or message holds `like`."""
    found = await world.query(f"select state, key, message from consumer_inbox where handler = '{handler}'")
    wanted = like.encode()
    return [
        STATES[state]
        for state, key, message in found
        if wanted in bytes(key) or wanted in bytes(message or b"")
    ]


async def come_to(world: World, handler: str, like: str, *expected: str, seconds: float = 40) -> None:
    """Wait until a handler's entries that hold `like` are in exactly these states."""
    found: list[str] = []

    async def there() -> bool:
        found[:] = await states(world, handler, like)
        return sorted(found) == sorted(expected)

    await until(
        there,
        seconds,
        lambda: f"{handler} {like}: {expected}, there are {found}\n{world.shop.logs()}",
    )


async def ledger(world: World, key: str) -> list[tuple[Any, ...]]:
    return await world.query(
        f"select tenant, account, amount, currency, source from ledger where payment_id = '{key}'"
    )


def told(world: World, kind: str, key: str) -> list[dict[str, Any]]:
    """The lines that a handler wrote into the effects file for a key."""
    return [line for line in world.shop.lines() if (line["kind"], line["key"]) == (kind, key)]
