"""Every cell of the mode table, end to end: on both SQL stores, fed by the store and by a broker.

The crash column is `tests/crash`.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Reject, Retry, Transactional, Tx
from consumer.rules.modes import MODES, Outcome
from tests.path.kit import Order, opened
from tests.path.listsource import ListSource

FAR = 3600.0
TWICE = Backoff(2, first=0)
TRANSACTIONAL, AT_MOST_ONCE, AT_LEAST_ONCE = (
    Transactional(retry=TWICE),
    AtMostOnce(),
    AtLeastOnce(retry=TWICE),
)


class Cell(NamedTuple):
    """What an attempt's outcome must look like afterwards."""

    state: str
    attempts: int
    reason: str | None


DONE = Cell("done", 1, None)
WAITING = Cell("waiting", 1, "not yet")
REJECTED = Cell("dead", 1, "never")
SPENT = Cell("dead", 2, "ValueError: broken")
TIMEOUT = 0.05
LATE = f"no result within {TIMEOUT:g} s"

CELLS: dict[tuple[Any, Outcome], Cell] = {
    (TRANSACTIONAL, Outcome.RETURNED): DONE,
    (TRANSACTIONAL, Outcome.RETRY): WAITING,
    (TRANSACTIONAL, Outcome.REJECT): REJECTED,
    (TRANSACTIONAL, Outcome.RAISED): SPENT,
    (TRANSACTIONAL, Outcome.TIMED_OUT): Cell("dead", 2, LATE),
    (AT_MOST_ONCE, Outcome.RETURNED): DONE,
    (AT_MOST_ONCE, Outcome.RETRY): WAITING,
    (AT_MOST_ONCE, Outcome.REJECT): REJECTED,
    (AT_MOST_ONCE, Outcome.RAISED): Cell("in_doubt", 1, "ValueError: broken"),
    (AT_MOST_ONCE, Outcome.TIMED_OUT): Cell("in_doubt", 1, LATE),
    (AT_LEAST_ONCE, Outcome.RETURNED): DONE,
    (AT_LEAST_ONCE, Outcome.RETRY): WAITING,
    (AT_LEAST_ONCE, Outcome.REJECT): REJECTED,
    (AT_LEAST_ONCE, Outcome.RAISED): SPENT,
    (AT_LEAST_ONCE, Outcome.TIMED_OUT): Cell("dead", 2, LATE),
}


def shop(mode: Any, starts: list[int], outcome: Outcome) -> App:
    app = App("shop")
    # Short only where it shall be over: what a busy machine takes for one statement is no outcome of the handler's.
    timeout = TIMEOUT if outcome is Outcome.TIMED_OUT else 30.0

    async def act(order: Order, ctx: Context) -> dict[str, str]:
        starts.append(ctx.fencing_token)
        ctx.publish("effects", {"id": order.id})
        match order.do:
            case "Retry":
                raise Retry("not yet", after=FAR)
            case "Reject":
                raise Reject("never")
            case "anything else raised":
                raise ValueError("broken")
            case "time-out":
                await asyncio.Event().wait()
        return {"done": order.id}

    if isinstance(mode, Transactional):

        @app.on("orders", key=Key.field("id"), mode=mode, timeout=timeout)
        async def in_transaction(order: Order, ctx: Context, tx: Tx) -> dict[str, str]:
            await tx.execute("insert into effects (id) values ($1)", order.id)
            return await act(order, ctx)
    else:

        @app.on("orders", key=Key.field("id"), mode=mode, timeout=timeout)
        async def outside(order: Order, ctx: Context) -> dict[str, str]:
            return await act(order, ctx)

    return app


def test_every_cell_but_the_crash_is_here() -> None:
    told = {(mode, outcome) for mode, rules in MODES.items() for outcome in rules.outcomes}
    assert {(type(mode), outcome) for mode, outcome in CELLS} == {
        cell for cell in told if cell[1] is not Outcome.CRASHED
    }


@pytest.mark.parametrize("fed", ["store", "broker"])
@pytest.mark.parametrize(
    ("mode", "outcome"),
    CELLS,
    ids=[f"{type(mode).__name__}-{outcome.name.lower()}" for mode, outcome in CELLS],
)
async def test_cell(mode: Any, outcome: Outcome, fed: str, url: str, is_postgres: bool) -> None:
    """Mutant: any two cells of `rules.modes.MODES` swapped."""
    cell, starts = CELLS[mode, outcome], list[int]()
    order = Order("k", outcome.value)
    source = ListSource() if fed == "broker" else None
    async with opened(shop(mode, starts, outcome), url, source=source) as process:
        if source is None:
            await process.publish("orders", [order])
        else:
            source.add("orders", order)
        await process.rest()
        entry = await process.entry("k")
        first = len(starts)
        if source is None:
            await process.publish("orders", [order])
        else:
            source.add("orders", order)  # a duplicate changes nothing, and is acknowledged
        await process.rest()
        again = await process.entry("k")
        effects = await process.effects()
    assert Cell(entry.state.word, entry.attempts, entry.reason) == cell
    assert again == entry
    assert len(starts) == first
    if type(mode) is Transactional and not is_postgres:
        # On SQLite a rolled-back group takes its tokens back; nothing that it did is left for anybody to fence.
        assert starts == sorted(starts)
    else:
        assert starts == sorted(set(starts)), "every start has a higher token"
    done = cell.state == "done"
    assert effects == (["k"] if done and isinstance(mode, Transactional) else [])
    assert [message.value for message in process.sink.published] == ([b'{"id":"k"}'] if done else [])
    assert entry.result == (b'{"done":"k"}' if done else None)
    assert (entry.message is None) == done, "whatever may start again holds its bytes"
    if isinstance(mode, AtMostOnce):
        assert first == 1
    if source is not None:
        assert source.acks == [("orders", 0, 0), ("orders", 0, 1)]
