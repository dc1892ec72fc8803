"""`path.timer`: behaves as `asyncio.timeout`, with one timer for all."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from consumer.path.timer import Limit, Timer


def _task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_block_that_takes_too_long_is_a_time_out_and_no_cancellation() -> None:
    limit = Timer().limit(_task(), 0.01)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert limit.expired
    assert _task().cancelling() == 0


async def test_a_block_that_ends_in_time_is_left_alone_afterwards() -> None:
    timer = Timer()
    with timer.limit(_task(), 0.01) as limit:
        pass
    longer = timer.limit(_task(), 0.03)  # rings after the first would have
    with pytest.raises(TimeoutError), longer:
        await asyncio.Event().wait()
    assert not limit.expired


async def test_a_block_may_answer_its_time_out_with_a_result() -> None:
    result = ""
    with Timer().limit(_task(), 0.01) as limit:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            result = "finished in a hurry"
    assert (result, limit.expired, _task().cancelling()) == ("finished in a hurry", True, 0)


async def test_an_error_raised_at_the_time_out_stays_that_error() -> None:
    async def block() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("on the way out") from None

    with pytest.raises(ValueError, match="on the way out"), Timer().limit(_task(), 0.01):
        await block()
    assert _task().cancelling() == 0


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_at_all_lets_the_block_run_to_its_first_wait(seconds: float) -> None:
    reached = asyncio.Event()

    async def block() -> None:
        reached.set()
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError), Timer().limit(_task(), seconds):
        await block()
    assert reached.is_set()


async def test_somebody_elses_cancellation_is_none_of_ours() -> None:
    async def wait(limit: Limit) -> None:
        with limit:
            await asyncio.Event().wait()

    timer = Timer()
    task: asyncio.Task[None]

    async def begin() -> None:
        await wait(timer.limit(task, 30))

    task = asyncio.create_task(begin())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_by_both_it_is_cancelled() -> None:
    timer = Timer()
    limits: list[Limit] = []

    async def block() -> None:
        limits.append(timer.limit(_task(), 30))
        with limits[0]:
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    limits[0].expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_shorter_one_rings_first_whichever_began_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still until it is moved: a loop that is late lets several be over at once."""
    loop = asyncio.get_running_loop()
    now = float(math.ceil(loop.time()))
    monkeypatch.setattr(loop, "time", lambda: now)
    timer = Timer()
    rung: list[str] = []

    async def block(name: str, seconds: float) -> None:
        try:
            with timer.limit(_task(), seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            rung.append(name)

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("third", 60.0), ("first", 20.0), ("fourth", 80.0), ("second", 40.0)):
            group.create_task(block(name, seconds))
        for number in range(5):
            for _ in range(10):
                await asyncio.sleep(0)
            assert rung == ["first", "second", "third", "fourth"][:number]
            now += 20.0


async def test_attempts_that_end_in_time_set_no_timer_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    set_anew: list[float] = []
    call_at = loop.call_at

    def counted(when: float, *args: Any) -> asyncio.TimerHandle:
        set_anew.append(when)
        return call_at(when, *args)

    monkeypatch.setattr(loop, "call_at", counted)
    timer = Timer()
    for _ in range(100):
        with timer.limit(_task(), 30):
            pass
    assert len(set_anew) == 1
