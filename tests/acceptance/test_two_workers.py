"""Two workers in one consumer group on real Kafka and Postgres: duplicates, two SIGKILLs, a rebalance after each."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.shop import Shop, committed, fresh_shop_topics, produce, read_all, rows, until
from tests.services import Kafka

UNIQUE = 8_000
DUPLICATES = 3_400
GROUP = "storm"
SLOTS = 64


def payments() -> list[dict[str, Any]]:
    chance = random.Random(3)
    unique = [
        {
            "payment_id": f"p-{i}",
            "account": f"account-{chance.randrange(200)}",
            "amount": chance.randrange(1, 10_000),
            "currency": "EUR",
        }
        for i in range(UNIQUE)
    ]
    stream = unique + [chance.choice(unique) for _ in range(DUPLICATES)]
    chance.shuffle(stream)
    return stream


@pytest.mark.timeout(400)
async def test_a_payment_is_taken_once_through_two_kills(
    kafka: Kafka, postgres_url: str, tmp_path: Path
) -> None:
    """Mutants: commit an offset beyond unfinished work; ack a duplicate of a running key; no entry before the effect."""
    await fresh_shop_topics(kafka)
    shop = Shop(tmp_path, store=postgres_url, broker=f"kafka://{kafka.bootstrap}")
    try:
        shop.migrate()
        stream = payments()
        chance = random.Random(4)
        # record keys at random: the duplicates of a payment come on several partitions, so at both workers
        records = [(str(chance.random()).encode(), json.dumps(payment).encode()) for payment in stream]
        placed = await produce(kafka.bootstrap, "payments.requested", records)
        by_place = {(m.partition, m.offset): p["payment_id"] for m, p in zip(placed, stream, strict=True)}

        first = shop.start("--group", GROUP, "--worker-ttl", "5")
        second = shop.start("--group", GROUP, "--worker-ttl", "5")

        async def ledger(at_least: int) -> bool:
            [row] = await rows(postgres_url, "select count(*) from ledger")
            return bool(row[0] >= at_least)

        await until(lambda: ledger(2_000), 60, lambda: f"2,000 payments\n{shop.logs()}")
        shop.kill(first)
        await nothing_committed_beyond_unfinished_work(kafka, postgres_url, by_place)
        third = shop.start("--group", GROUP, "--worker-ttl", "5")
        # After a death payments run alone for a while: on a busy machine some dozens a second.
        await until(lambda: ledger(5_000), 120, lambda: f"5,000 payments\n{shop.logs()}")
        shop.kill(second)
        await nothing_committed_beyond_unfinished_work(kafka, postgres_url, by_place)
        fourth = shop.start("--group", GROUP, "--worker-ttl", "5")
        await until(lambda: ledger(UNIQUE), 120, lambda: f"{UNIQUE} payments\n{shop.logs()}")

        async def at_rest() -> bool:
            [row] = await rows(
                postgres_url,
                "select (select count(*) from consumer_outbox) + "
                "(select count(*) from consumer_inbox where state not in (4, 5, 6)) + "
                "(select $1 - count(*) from consumer_inbox where handler = 'payments.settled')",
                UNIQUE,
            )
            return bool(row[0] == 0)

        await until(at_rest, 90, lambda: f"everything at rest\n{shop.logs()}")
        assert shop.terminate(third) == 0, shop.logs()
        assert shop.terminate(fourth) == 0, shop.logs()

        await the_books_are_right(kafka, postgres_url, shop, stream)
    finally:
        shop.close()


async def nothing_committed_beyond_unfinished_work(
    kafka: Kafka, url: str, by_place: dict[tuple[int, int], str]
) -> None:
    offsets = await committed(kafka.bootstrap, GROUP)
    passed = {
        key
        for (partition, offset), key in by_place.items()
        if offset < offsets.get(("payments.requested", partition), 0)
    }
    done = {
        row["key"].decode()
        for row in await rows(
            url, "select key from consumer_inbox where handler = 'payments.requested' and state = 4"
        )
    }
    assert passed <= done, f"{len(passed - done)} payments are acknowledged and not done"


async def the_books_are_right(kafka: Kafka, url: str, shop: Shop, stream: list[dict[str, Any]]) -> None:
    expected = {payment["payment_id"]: payment["amount"] for payment in stream}
    ledger = await rows(url, "select payment_id, amount from ledger")
    assert len(ledger) == len(expected) == UNIQUE, "one row per payment, no more and no less"
    assert {row["payment_id"]: row["amount"] for row in ledger} == expected

    ids: dict[str, set[bytes]] = {}
    for record in await read_all(kafka.bootstrap, "payments.settled"):
        ids.setdefault(json.loads(record.value)["payment_id"], set()).add(dict(record.headers)["message-id"])
    assert ids.keys() == expected.keys(), "every payment is announced"
    assert all(len(found) == 1 for found in ids.values()), (
        "every announcement of one payment has one message-id"
    )

    told = Counter(line["key"] for line in shop.lines())
    in_doubt = {
        row["key"].decode()
        for row in await rows(
            url, "select key from consumer_inbox where handler = 'payments.settled' and state = 5"
        )
    }
    assert max(told.values()) == 1, "nobody is told twice"
    assert len(in_doubt) <= 2 * SLOTS, "in doubt: no more than the slots of the killed workers"
    assert expected.keys() - told.keys() <= in_doubt, "whoever was not told is in doubt, not forgotten"

    offsets = await committed(kafka.bootstrap, GROUP)
    last: Counter[int] = Counter()
    for record in await read_all(kafka.bootstrap, "payments.requested"):
        last[record.partition] = max(last[record.partition], record.offset + 1)
    assert {p: offsets["payments.requested", p] for p in last} == dict(last), "everything is acknowledged"
