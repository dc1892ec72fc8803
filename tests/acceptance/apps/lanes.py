"""Ordered handlers, one of each kind: each notes its step of its lane, and fails now and then on the way."""

import json
import os

from msgspec import Struct

from consumer import App, AtLeastOnce, Backoff, Context, Key, Retry, Transactional, Tx

app = App("lanes")
app.schema(
    postgres=[
        "create table if not exists steps (seq bigint generated always as identity, lane text, number int, pid int)"
    ]
)

RUN = os.environ.get("LANES_RUN", "run")
EFFECTS = os.environ.get("SHOP_EFFECTS", "effects.jsonl")
SOON = Backoff(20, first=0.05, factor=1)


class Step(Struct):
    id: str
    lane: str
    number: int
    fails: int = 0


@app.on(f"books.{RUN}", key=Key.field("id"), mode=Transactional(retry=SOON), ordered=True, name="books")
async def books(step: Step, ctx: Context, tx: Tx) -> None:
    await tx.execute(
        "insert into steps (lane, number, pid) values ($1, $2, $3)", step.lane, step.number, os.getpid()
    )
    if ctx.attempt <= step.fails:
        raise Retry("not yet")


@app.on(f"letters.{RUN}", key=Key.field("id"), mode=AtLeastOnce(retry=SOON), ordered=True, name="letters")
async def letters(step: Step, ctx: Context) -> None:
    if ctx.attempt <= step.fails:
        raise Retry("not yet")
    line = json.dumps({"lane": step.lane, "number": step.number, "token": ctx.fencing_token})
    effects = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(effects, line.encode() + b"\n")
    finally:
        os.close(effects)
