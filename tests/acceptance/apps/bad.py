"""Handlers that do what one must not; each has a topic of its own, `good` shares the store with them."""

import asyncio
import contextlib
import os
import sys
from typing import Any

from msgspec import Struct

from consumer import App, AtMostOnce, Backoff, Context, Key, Transactional, Tx

app = App("bad")
app.schema(
    postgres=[
        "create table if not exists marks (who text not null, id text not null, amount int check (amount > 0))"
    ]
)

TWICE = Transactional(retry=Backoff(2, first=0.1))
INSERT = "insert into marks (who, id, amount) values ($1, $2, $3)"
leaked: list[tuple[Tx, Context]] = []
left: set[asyncio.Task[None]] = set()


class Thing(Struct):
    id: str
    fate: str = "good"


@app.on("good", key=Key.field("id"), mode=Transactional())
async def good(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "good", thing.id, 1)


@app.on("hangs", key=Key.field("id"), mode=TWICE, timeout=1)
async def hangs(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "hangs", thing.id, 1)
    if thing.fate != "good":
        await asyncio.Event().wait()


@app.on("deaf", key=Key.field("id"), mode=TWICE, timeout=1)
async def deaf(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "deaf", thing.id, 1)
    while thing.fate != "good":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


@app.on("deaf.once", key=Key.field("id"), mode=AtMostOnce(), timeout=1)
async def deaf_once(thing: Thing) -> None:
    while thing.fate != "good":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def write_late(tx: Tx, thing: Thing) -> None:
    await asyncio.sleep(0.1)
    await tx.execute(INSERT, "late", thing.id, 1)


@app.on("leaks", key=Key.field("id"), mode=TWICE)
async def leaks(thing: Thing, ctx: Context, tx: Tx) -> None:
    for old, _ in leaked:
        with contextlib.suppress(Exception):
            old.write(INSERT, "leaked", thing.id, 1)
        with contextlib.suppress(Exception):
            await old.execute(INSERT, "leaked", thing.id, 1)
    for _, old_ctx in leaked:
        with contextlib.suppress(Exception):
            old_ctx.publish("good", {"id": f"leaked-{thing.id}"})
    leaked.append((tx, ctx))
    task = asyncio.create_task(write_late(tx, thing))
    left.add(task)
    task.add_done_callback(left.discard)
    task.add_done_callback(asyncio.Task.exception)
    await tx.execute(INSERT, "leaks", thing.id, 1)


@app.on("swallows", key=Key.field("id"), mode=TWICE)
async def swallows(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "swallows", thing.id, 1)
    if thing.fate != "good":
        with contextlib.suppress(Exception):
            await tx.execute(INSERT, "swallows", thing.id, -1)  # the check constraint refuses it


@app.on("commits", key=Key.field("id"), mode=TWICE)
async def commits(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "commits", thing.id, 1)
    driver: Any = tx.driver
    if thing.fate == "through tx":
        await tx.execute("commit")
    if thing.fate == "through the driver":
        await driver.execute("commit")
    if thing.fate == "rollback":
        await driver.execute("rollback")
    if thing.fate == "commit and begin":
        await driver.execute("commit; begin")
    if thing.fate == "closes":
        await driver.close()
    if thing.fate == "commits and swallows":
        with contextlib.suppress(Exception):
            await driver.execute("commit")


@app.on("ends", key=Key.field("id"), mode=TWICE)
async def ends(thing: Thing, tx: Tx) -> None:
    await tx.execute(INSERT, "ends", thing.id, 1)
    if thing.fate == "sys.exit":
        sys.exit(3)
    if thing.fate == "cancels itself":
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
    if thing.fate == "os._exit":
        os._exit(9)


@app.on("returns", key=Key.field("id"), mode=TWICE)
async def returns(thing: Thing, tx: Tx) -> Any:
    await tx.execute(INSERT, "returns", thing.id, 1)
    return object() if thing.fate != "good" else None
