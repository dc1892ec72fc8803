"""How many bytes a key takes: fills a store with done entries, then with landed messages, and asks it how much it has grown.

    python deploy/tools/size.py postgresql://postgres@127.0.0.1/scratch [--keys 20000]

The store must be a new one, migrated or not: it is written to, and not tidied up. Run with the project's own Python.
"""

# ruff: noqa: INP001, T201, PLC0415 - a program for people; each driver only where its store is measured
from __future__ import annotations

import argparse
import asyncio
import secrets
import uuid
from contextlib import closing

from consumer.entry import Claim, Kind, Landing, OnLapse, Settle, Won
from consumer.message import Message
from consumer.ports.store import Store
from consumer.rules.keys import fingerprint_of_bytes, identity
from consumer.stores import open_store

__all__ = ["main"]

APP, TENANT, HANDLER = "size", "public", "payments.requested"
BATCH = 500
RESULT = b'{"payment_id":"0b6a6d3e-6f0e-4f0b-9a52-8f3a7d6f3a11","status":"settled"}'
BODY = 1024


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Bytes per key of a store.")
    parser.add_argument("store")
    parser.add_argument("--keys", type=int, default=20_000)
    asked = parser.parse_args()
    asyncio.run(_measure(asked.store, asked.keys))


async def _measure(url: str, keys: int) -> None:
    store = open_store(url, APP)
    await store.migrate()
    await store.open()
    try:
        worker = await store.workers.open(600, "size")
        empty = await _bytes(url)
        await _done(store, worker, keys)
        two = await _bytes(url)
        await _transactional(store, keys)
        done = await _bytes(url)
        await _land(store, keys)
        landed = await _bytes(url)
        await store.workers.close(worker)
    finally:
        await store.close()
    print(f"{keys:,} keys of 36 bytes in {url.partition(':')[0]}")
    for what, grown in (
        (f"done, claimed and settled, with a result of {len(RESULT)} bytes", two - empty),
        (f"done, Transactional, with a result of {len(RESULT)} bytes", done - two),
        (f"landed, with a body of {BODY:,} random bytes", landed - done),
    ):
        if grown:
            print(f"{what:55} {grown / keys:6,.0f} bytes a key")


async def _done(store: Store, worker: int, keys: int) -> None:
    """Claim and complete, as a worker does: the settles of one batch with the claims of the next."""
    settles: list[Settle] = []
    for start in range(0, keys + BATCH, BATCH):
        claims = [_claim(str(uuid.uuid4()).encode()) for _ in range(min(BATCH, max(0, keys - start)))]
        _, answers = await store.inbox.turn(worker, settles, claims)
        settles = [
            Settle(claim.identity, answer.token, Kind.COMPLETE, result=RESULT)
            for claim, answer in zip(claims, answers, strict=True)
            if isinstance(answer, Won)
        ]


async def _transactional(store: Store, keys: int) -> None:
    """The entries of a group and their results in one commit, each written once."""
    if store.groups is None:
        return
    for start in range(0, keys, BATCH):
        claims = [_claim(str(uuid.uuid4()).encode()) for _ in range(min(BATCH, keys - start))]
        group = await store.groups.open()
        await group.claim(claims)
        await group.fill([(claim.identity, RESULT) for claim in claims], [], [])
        await group.seal()
        await group.commit()


async def _land(store: Store, keys: int) -> None:
    for start in range(0, keys, BATCH):
        landings = []
        for _ in range(min(BATCH, keys - start)):
            key = str(uuid.uuid4()).encode()
            message = Message(HANDLER, secrets.token_bytes(BODY)).encode()
            own = identity(APP, TENANT, HANDLER, key)
            landings.append(
                Landing(
                    own, TENANT, HANDLER, key, fingerprint_of_bytes(key), OnLapse.WAITING, 5, message, own
                )
            )
        await store.arrivals.land(landings)


def _claim(key: bytes) -> Claim:
    nonce = secrets.randbelow(2**62) + 1
    own = identity(APP, TENANT, HANDLER, key)
    return Claim(own, TENANT, HANDLER, key, fingerprint_of_bytes(key), nonce, OnLapse.WAITING, 5)


async def _bytes(url: str) -> int:
    """Ask the store itself; a file's size, a database's relations, a server's memory."""
    kind = url.partition(":")[0]
    if kind in {"postgresql", "postgres"}:
        import asyncpg

        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval(_RELATIONS))
        finally:
            await connection.close()
    if kind.startswith("redis"):
        from redis.asyncio import Redis

        async with Redis.from_url(url) as client:
            return int((await client.info("memory"))["used_memory"])
    from sqlite3 import connect

    with closing(connect(url.removeprefix("sqlite:///"))) as connection:
        pages, size = (
            connection.execute(f"pragma {what}").fetchone()[0] for what in ("page_count", "page_size")
        )
        return int(pages * size)


_RELATIONS = """
select sum(pg_total_relation_size(c.oid)) from pg_class c
where c.relkind = 'r' and c.relname like 'consumer\\_%'
"""

if __name__ == "__main__":
    main()
