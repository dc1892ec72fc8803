"""When deliveries run alone: after a death, and while a worker may be dead; not because workers come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consumer.worker.caution import SILENT_LOOKS, Caution

ME, OTHER, HEIR = 5, 2, 7


class Registry:
    """The other workers, as the store shows them; what a test plants happens between two questions."""

    def __init__(self) -> None:
        self.beats: dict[int, float] = {}
        self.dead: set[int] = set()
        self.between: Callable[[], None] = lambda: None

    async def others(self, worker: int) -> dict[int, float]:
        seen = {number: beat for number, beat in self.beats.items() if number != worker}
        self.between()
        return seen

    async def lapsed(self, since: int) -> set[int]:
        return {number for number in self.dead if number >= since}

    def come(self, worker: int) -> None:
        self.beats[worker] = 0.0

    def beat(self) -> None:
        self.beats = {number: beat + 1 for number, beat in self.beats.items()}

    def leave(self, worker: int) -> None:
        self.beats.pop(worker, None)

    def lapse(self, worker: int) -> None:
        if self.beats.pop(worker, None) is not None:
            self.dead.add(worker)


class Process:
    """One process that looks now and then."""

    def __init__(self, *, brokered: bool = True) -> None:
        self.store = Registry()
        self.caution = Caution(3, brokered=brokered)

    async def look(self, *, unclean: bool = False) -> set[int]:
        workers: Any = self.store
        return await self.caution.look(workers, ME, unclean=unclean)

    async def meet(self) -> None:
        workers: Any = self.store
        await self.caution.meet(workers, ME)

    def careful(self, partition: int = 0) -> bool:
        class Message:
            position = f"orders/{partition}/7"

        class Envelope:
            message = Message

        class Work:
            envelope = Envelope

        work: Any = Work
        return self.caution.careful(work)


@pytest.fixture
def process() -> Process:
    return Process()


async def test_whom_a_process_finds_when_it_starts_is_suspect_until_it_is_seen_alive(
    process: Process,
) -> None:
    """Mutant: a suspicion that alarms (then every process is slow for a while that is not the first)."""
    process.store.come(OTHER)
    await process.look()
    assert process.careful()
    assert process.caution.careful_with_due
    process.store.beat()
    await process.look()
    assert not process.careful()
    assert not bool(process.caution.careful_with_due)


async def test_whoever_comes_later_makes_nobody_careful_until_it_is_silent(process: Process) -> None:
    """Mutant: a newcomer is suspect, though it is careful itself while it is new."""
    await process.look()
    process.store.come(HEIR)
    for _ in range(SILENT_LOOKS):
        await process.look()
        assert not process.careful()
    await process.look()
    assert process.careful(), "now it is silent"


async def test_a_look_between_two_beats_is_no_silence(process: Process) -> None:
    """Mutant: SILENT_LOOKS = 1."""
    process.store.come(OTHER)
    for beats in (True, True, False, True, False, True):
        await process.look()
        if beats:
            process.store.beat()
    await process.look()
    for _ in range(SILENT_LOOKS):
        assert not process.careful()
        await process.look()
    assert process.careful(), "now it is silent"


@pytest.mark.parametrize(
    "when", ["seen alive", "seen once", "silent", "never seen", "in the middle of a look"]
)
async def test_a_neighbour_that_leaves_is_no_alarm_whenever_it_leaves(process: Process, when: str) -> None:
    """Mutant: who is gone without having been compared twice counts as dead."""
    await process.meet()
    if when != "never seen":
        process.store.come(OTHER)
        await process.look()
    if when in ("seen alive", "silent"):
        process.store.beat()
        await process.look()
    if when == "silent":
        for _ in range(SILENT_LOOKS):
            await process.look()
    if when == "in the middle of a look":
        process.store.between = lambda: process.store.leave(OTHER)
        await process.look()
    process.store.leave(OTHER)
    assert await process.look() == set()
    assert not process.careful()
    assert not process.caution.careful_with_due
    assert process.caution.alarms == 0


@pytest.mark.parametrize(
    "how",
    ["seen alive", "never seen alive", "never seen", "found holding", "between two questions", "an heir's"],
)
async def test_a_death_is_an_alarm_until_every_partition_has_moved_on(process: Process, how: str) -> None:
    """Mutant: `Caution.look` that never alarms."""
    store = process.store
    if how == "never seen":
        await process.meet()
        store.come(HEIR)
        store.lapse(HEIR)
    elif how == "an heir's":
        await process.look()
        store.come(HEIR)
        await process.look()
        store.lapse(HEIR)
    elif how != "found holding":
        store.come(OTHER)
        await process.look()
        store.beat()
        if how == "seen alive":
            await process.look()
            assert not process.careful()
        if how == "between two questions":
            store.between = lambda: store.lapse(OTHER)
        else:
            store.lapse(OTHER)
    dead = await process.look(unclean=how == "found holding")
    assert len(dead) == (how != "found holding")
    assert process.caution.careful_with_due
    process.caution.drained()
    alone = [process.careful(partition) for partition in (1, 0, 0, 0, 0, 1, 1, 1)]
    assert alone == [True, True, True, True, False, True, True, False], "each has moved past what was in hand"
    assert await process.look() == set(), "one alarm each"
    assert not process.careful()


async def test_deaths_of_long_ago_alarm_nobody_and_those_of_the_moment_of_the_start_do(
    process: Process,
) -> None:
    """Mutant: all lapses that the store remembers are news to whoever starts."""
    for number in (1, 3, 4):
        process.store.come(number)
    process.store.lapse(3)
    await process.meet()
    process.store.lapse(4)
    assert await process.look() == {4}
    process.store.leave(1)
    assert await process.look() == set()
    assert process.caution.alarms == 1


async def test_without_a_broker_the_due_entries_are_all_there_is() -> None:
    process = Process(brokered=False)
    await process.look(unclean=True)
    assert process.careful()
    process.caution.drained()
    assert not process.careful()
