"""Who takes part, with whom each is compared, and how its result is checked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from bench import hand, ours
from bench.meter import Measured

__all__ = ["CONTESTANTS", "Contestant"]

_LEDGER = ("select count(*) from ledger", "select count(distinct payment_id) from ledger")
_INBOX = ("select count(*) from inbox where state = 'done'",)
_ENTRIES = ("select count(*) from consumer_inbox where state = 4", "select count(*) from consumer_inbox")

Run = Callable[[str, str, str, int], Coroutine[Any, Any, Measured]]
"""(store URL, Kafka's address, topic, number of messages)."""


class Contestant(NamedTuple):
    """One line of the table.

    Attributes:
        name: for the command line.
        title: for the table.
        run: consumes a topic.
        beside: the name of the contestant that its ratio is taken to.
        messages: so many that a run takes a few seconds.
        schema: of a contestant that does not make its own tables.
        checks: queries that must each answer with the number of different keys, or the run is void.
    """

    name: str
    title: str
    run: Run
    beside: str
    messages: int
    checks: tuple[str, ...]
    schema: str = ""


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant(
            "hand",
            "by hand: batched, a statement per handler",
            hand.hand_batched,
            "hand",
            20_000,
            (*_LEDGER, *_INBOX),
            hand.SCHEMA,
        ),
        Contestant(
            "naive",
            "naive: a transaction per message",
            hand.naive,
            "hand",
            5_000,
            (*_LEDGER, *_INBOX),
            hand.SCHEMA,
        ),
        Contestant("execute", "ours: await tx.execute", ours.execute, "hand", 20_000, (*_LEDGER, *_ENTRIES)),
        Contestant(
            "limit",
            "the limit: batched, one statement for all rows",
            hand.limit,
            "limit",
            100_000,
            (*_LEDGER, *_INBOX),
            hand.SCHEMA,
        ),
        Contestant("write", "ours: tx.write", ours.write, "limit", 100_000, (*_LEDGER, *_ENTRIES)),
        Contestant(
            "hand64",
            "by hand: at most once, 64 at a time",
            hand.at_most_once,
            "hand64",
            50_000,
            _INBOX,
            hand.SCHEMA,
        ),
        Contestant("slots64", "ours: AtMostOnce(), 64 slots", ours.at_most_once, "hand64", 50_000, _ENTRIES),
    )
}
