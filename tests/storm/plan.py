"""What a storm will be: drawn from a seed before it begins."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Blow", "Plan", "blows", "stream"]

DUPLICATES = 0.3
WORKERS = 4
SLOTS = 64

KILL, PAUSE, BROKER, DATABASE, GROW, SHRINK = "kill", "pause", "broker", "database", "grow", "shrink"


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a storm.

    Attributes:
        seed: of everything that is drawn.
        seconds: how long messages are sent and workers are hurt.
        messages: how many are sent, duplicates included.
        ttl: the workers' time-to-live in seconds.
    """

    seed: int = 1
    seconds: float = 300.0
    messages: int = 100_000
    ttl: float = 5.0


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that happens.

    Attributes:
        at: seconds after the beginning.
        what: `kill`, `pause`, `broker`, `database`, `grow` or `shrink`.
        dice: which worker, in 0 … 1.
        length: seconds of a pause.
    """

    at: float
    what: str
    dice: float = 0.0
    length: float = 0.0


def blows(plan: Plan) -> list[Blow]:
    """One worker, soon four; a kill or a pause every few seconds; a broker and a database restart; one worker at the end."""
    chance = random.Random(plan.seed)
    fixed = [(0.05, GROW), (0.35, BROKER), (0.6, DATABASE), (0.92, SHRINK)]
    found = [Blow(plan.seconds * part, what) for part, what in fixed]
    at = plan.seconds * 0.1
    while (at := at + chance.uniform(3, 9)) < plan.seconds * 0.9:
        # Some pauses are shorter than a worker's time-to-live, some longer: then others adopt what it holds.
        what = chance.choice([KILL, PAUSE])
        found.append(Blow(at, what, chance.random(), chance.uniform(0.3, 2.0) * plan.ttl))
    return sorted(found, key=lambda blow: blow.at)


def stream(plan: Plan) -> list[int]:
    """The numbers of the messages in the order in which they are sent; three in ten were there before, or come again."""
    chance = random.Random(plan.seed + 1)
    unique = range(round(plan.messages * (1 - DUPLICATES)))
    numbers = [*unique, *(chance.choice(unique) for _ in range(plan.messages - len(unique)))]
    chance.shuffle(numbers)
    return numbers
