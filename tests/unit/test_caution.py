"""When deliveries run alone: after a death, and while a worker may be dead; not because there is more than one."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.worker.caution import SILENT_LOOKS, Caution

ME, OTHER = 1, 2


class Beats:
    """Other workers' signs of life, as the store shows them."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    async def others(self, worker: int) -> dict[int, float]:
        return dict(self.seen)


class Process:
    """One process that looks now and then."""

    def __init__(self, *, brokered: bool = True) -> None:
        self.beats = Beats()
        self.caution = Caution(3, brokered=brokered)

    async def look(self, *, unclean: bool = False, before: dict[int, float] | None = None) -> None:
        workers: Any = self.beats
        await self.caution.look(workers, ME, unclean=unclean, before=before)

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


async def test_a_new_neighbour_is_suspect_until_it_is_seen_alive_and_that_was_all(process: Process) -> None:
    """Mutant: a suspicion that alarms (then every process is slow for a while whenever one more starts)."""
    await process.look()
    assert not process.careful()
    process.beats.seen = {OTHER: 1.0}
    await process.look()
    assert process.careful()
    assert process.caution.careful_with_due
    process.beats.seen = {OTHER: 2.0}
    await process.look()
    assert not process.careful()
    assert not bool(process.caution.careful_with_due)


async def test_a_look_between_two_beats_is_no_silence(process: Process) -> None:
    """Mutant: SILENT_LOOKS = 1."""
    for beat in (1.0, 2.0, 2.0, 3.0, 3.0, 4.0):
        process.beats.seen = {OTHER: beat}
        await process.look()
        assert process.careful() == (beat == 1.0)
    for _ in range(SILENT_LOOKS):
        assert not process.careful()
        await process.look()
    assert process.careful(), "now it is silent"


async def test_a_neighbour_that_leaves_in_order_is_no_alarm(process: Process) -> None:
    for beat in (1.0, 2.0, 3.0):
        process.beats.seen = {OTHER: beat}
        await process.look()
    process.beats.seen = {}
    await process.look()
    assert not process.careful()


@pytest.mark.parametrize("how", ["never seen alive", "silent and gone", "found lapsed", "closed just now"])
async def test_a_death_is_an_alarm_until_every_partition_has_moved_on(process: Process, how: str) -> None:
    """Mutant: `Caution.look` that never alarms."""
    process.beats.seen = {OTHER: 1.0}
    await process.look()
    if how != "never seen alive":
        process.beats.seen = {OTHER: 2.0}
        await process.look()
        assert not process.careful()
    if how == "silent and gone":
        for _ in range(SILENT_LOOKS):
            await process.look()
    process.beats.seen = {}
    await process.look(
        unclean=how == "found lapsed", before={OTHER: 2.0} if how == "closed just now" else None
    )
    assert process.caution.careful_with_due
    process.caution.drained()
    alone = [process.careful(partition) for partition in (1, 0, 0, 0, 0, 1, 1, 1)]
    assert alone == [True, True, True, True, False, True, True, False], "each has moved past what was in hand"


async def test_without_a_broker_the_due_entries_are_all_there_is() -> None:
    process = Process(brokered=False)
    await process.look(unclean=True)
    assert process.careful()
    process.caution.drained()
    assert not process.careful()
