"""The books after a storm: what was sent, what took effect, and what is not as promised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from consumer.entry import State
from consumer.stores import open_store
from tests.acceptance.shop import committed, read_all
from tests.storm.places import Place
from tests.storm.plan import SLOTS

__all__ = ["Books", "at_rest", "books"]

_ENDED = {State.DONE, State.IN_DOUBT, State.DEAD}


@dataclass(slots=True)
class Books:
    """Counts of keys, if nothing else is said.

    Attributes:
        published: records in the topic.
        unique: different keys among them.
        handled: those with every effect.
        suppressed: records beyond the first of a key, which had no effect of their own.
        doubled: effects beyond the first of a key.
        lost: without an effect, and not in doubt.
        in_doubt: entries that somebody has to look at.
        untold: in doubt, and without the effect.
        bound: the largest permitted `in_doubt`: the slots of every process that was killed or stopped too long.
        dead: dead letters; no message deserved to become one.
        republished: records of one outgoing message beyond the first (the same `message-id`): permitted.
        reannounced: keys with two message-ids: never permitted.
        faults: workers that ended by themselves, or not cleanly.
    """

    published: int = 0
    unique: int = 0
    handled: int = 0
    suppressed: int = 0
    doubled: int = 0
    lost: int = 0
    in_doubt: int = 0
    untold: int = 0
    bound: int = 0
    dead: int = 0
    republished: int = 0
    reannounced: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """What breaks the promise; nothing, where all is well."""
        zero = ("doubled", "lost", "dead", "reannounced")
        found = [f"{name}: {getattr(self, name)}, expected 0" for name in zero if getattr(self, name)]
        if self.in_doubt > self.bound:
            found.append(f"in doubt: {self.in_doubt}, more than {self.bound}")
        return found + self.faults

    def __str__(self) -> str:
        names = [name for name in self.__dataclass_fields__ if name != "faults"]
        lines = [f"{name.replace('_', ' '):12} {getattr(self, name):>9,}" for name in names]
        return "\n".join([*lines, *(f"WRONG        {each}" for each in self.wrong)])


async def at_rest(place: Place, unique: int, bootstrap: str, ends: dict[tuple[str, int], int]) -> str:
    """Return what is still under way; empty when everything has ended and is acknowledged."""
    store = open_store(place.store, place.name)
    await store.open()
    try:
        counts = await store.operator.stats()
        backlog = await store.operator.backlog()
    finally:
        await store.close()
    told = sum(c.count for c in counts if c.handler == place.telling and c.state in _ENDED)
    moving = sum(c.count for c in counts if c.state not in _ENDED)
    offsets = await committed(bootstrap, "storm")
    behind = sum(end - offsets.get(where, 0) for where, end in ends.items())
    if told < unique or moving or backlog.unsent or behind:
        return (
            f"{told} of {unique} ended, {moving} under way, {backlog.unsent} unsent, {behind} unacknowledged"
        )
    return ""


async def books(place: Place, bootstrap: str, hurt: int) -> Books:
    """Close the books.

    Args:
        place: at rest.
        bootstrap: the broker's address.
        hurt: processes that were killed, or stopped so long that others adopted what they held.
    """
    sent = Counter(json.loads(each.value)[place.field] for each in await read_all(bootstrap, place.topic))
    store = open_store(place.store, place.name)
    await store.open()
    try:
        doubts = {each.key.decode() for each in await store.operator.entries(states=[State.IN_DOUBT])}
        dead = len(await store.operator.entries(states=[State.DEAD]))
    finally:
        await store.close()
    effects = await place.effects()
    everything = [set(each) for each in effects]
    told = everything[-1]
    made = Books(
        published=sent.total(),
        unique=len(sent),
        handled=len(set.intersection(*everything)),
        suppressed=sent.total() - len(sent),
        doubled=sum(each.total() - len(each) for each in effects) + _strangers(effects, sent),
        lost=sum(len(sent.keys() - each) for each in everything[:-1]) + len(sent.keys() - told - doubts),
        in_doubt=len(doubts),
        untold=len(doubts - told),
        bound=SLOTS * hurt,
        dead=dead,
    )
    if place.telling != place.topic:
        await _announcements(place, bootstrap, sent, made)
    return made


def _strangers(effects: Iterable[Counter[str]], sent: Counter[str]) -> int:
    """Effects of keys that nobody sent."""
    return sum(len(each.keys() - sent.keys()) for each in effects)


async def _announcements(place: Place, bootstrap: str, sent: Counter[str], made: Books) -> None:
    ids: dict[str, Counter[bytes]] = {}
    for record in await read_all(bootstrap, place.telling):
        key = json.loads(record.value)[place.field]
        ids.setdefault(key, Counter())[dict(record.headers)["message-id"]] += 1
    made.lost += len(sent.keys() - ids.keys())
    made.republished = sum(each.total() - len(each) for each in ids.values())
    made.reannounced = sum(len(each) > 1 for each in ids.values())
