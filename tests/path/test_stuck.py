"""Handlers that never return, and ignore it when they are told to: neighbours go on, and the key ends as its mode says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Context, Key, Transactional, Tx
from consumer.entry import State
from consumer.ports.operator import Resolution
from tests.path.kit import Order, Shop, opened
from tests.path.listsource import ListSource
from tests.path.weather import Weather

GRACE = 0.1
TIMEOUT = 30.0
"""Seconds that nobody waits for: a start that shall overrun it says so itself, and no neighbour on a busy machine does."""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an ignored cancellation is waited for; 2 s in life."""
    monkeypatch.setattr("consumer.worker.slots.GRACE", GRACE)
    monkeypatch.setattr("consumer.worker.watch.GRACE", GRACE)


async def ignore_cancellation(end: asyncio.Event) -> None:
    while not end.is_set():
        try:
            await end.wait()
        except asyncio.CancelledError:
            continue


class Stubborn:
    """A handler whose starts of the key `stuck` each wait for their own end, and cannot be stopped.

    Args:
        overrun: which of these starts overrun their time-out at once, by number.
    """

    def __init__(self, *, overrun: range = range(10)) -> None:
        self.overrun = overrun
        self.tasks: list[asyncio.Task[Any]] = []
        self.process: Shop | None = None
        self.starts: Counter[str] = Counter()
        self.tokens: list[int] = []
        self.ends = [asyncio.Event() for _ in range(10)]
        self.brief = asyncio.Event()

    async def act(self, order: Order, ctx: Context) -> str:
        number = self.starts[order.id]
        self.starts[order.id] += 1
        if order.id == "stuck":
            self.tokens.append(ctx.fencing_token)
            task = asyncio.current_task()
            assert task is not None
            self.tasks.append(task)
            if number in self.overrun:
                self.overrun_now(task)
            await ignore_cancellation(self.ends[number])
            if order.do == "raise":
                raise ValueError("broken, late")
        elif order.id == "brief":
            await self.brief.wait()
        ctx.publish("effects", order.id.encode())
        return f"{order.id} {number}"

    def overrun_now(self, task: asyncio.Task[Any]) -> None:
        """Let the time-out of the attempt that `task` runs be over, and its grace begin."""
        assert self.process is not None
        runtime = self.process.running.runtime
        parts = runtime.parts
        now = parts.clock.monotonic()
        parts.running[task].deadline = now
        for slot in runtime.slots._slots.values():
            if slot.task is task:
                slot.deadline = now + GRACE
        [limit] = [limit for limit in parts.timer._limits if limit._task is task]
        asyncio.get_running_loop().call_soon(limit.expire)

    def free(self) -> None:
        for end in self.ends:
            end.set()

    @asynccontextmanager
    async def at_work(self, app: App, url: str, **more: Any) -> AsyncIterator[Shop]:
        """Open the app; a test that fails lets its handlers go, so that the process can end."""
        async with opened(app, url, source=ListSource(), **more) as process:
            self.process = process
            try:
                yield process
            finally:
                self.free()


def outside(stubborn: Stubborn, mode: AtMostOnce | AtLeastOnce) -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=mode, timeout=TIMEOUT)
    async def take(order: Order, ctx: Context) -> str:
        return await stubborn.act(order, ctx)

    return app


def inside(stubborn: Stubborn) -> App:
    app = App("shop")

    @app.on("orders", key=Key.field("id"), mode=Transactional(retry=Backoff(2, first=0)), timeout=TIMEOUT)
    async def take(order: Order, ctx: Context, tx: Tx) -> str:
        await tx.execute("insert into effects (id) values ($1)", order.id)
        return await stubborn.act(order, ctx)

    return app


async def test_at_most_once_is_in_doubt_and_its_late_completion_counts(url: str) -> None:
    """Mutant: late completion discarded (`Slots._attempt`: an abandoned slot is popped whatever its verdict)."""
    stubborn = Stubborn()
    async with stubborn.at_work(outside(stubborn, AtMostOnce()), url) as process:
        for key in ("a", "stuck", "b"):
            process.source.add("orders", Order(key))
        await process.until(lambda: process.source.settled)
        doubtful = await process.entry("stuck")
        assert (doubtful.state, doubtful.message is not None) == (State.IN_DOUBT, True)
        assert doubtful.reason == "no result within 30 s, and it runs on"
        assert (await process.states())["a"] == (await process.states())["b"] == "done"
        assert process.running.runtime.slots.stuck == 1
        assert process.running.runtime.slots.running == 1
        stubborn.free()
        await process.until(lambda: process.running.runtime.slots.running == 0)
        done = await process.entry("stuck")
        assert (done.state, done.token, done.result) == (State.DONE, doubtful.token, b'"stuck 0"')
        assert [line.event for line in done.story] == ["doubt", "late"]
        assert process.running.runtime.slots.stuck == 0
    assert stubborn.starts == {"a": 1, "b": 1, "stuck": 1}


async def test_a_late_completion_after_a_resolution_is_refused(url: str) -> None:
    """Somebody has said that it had no effect, and it is started again: the first one's completion is a second effect.

    Mutant: a slot forgotten when the late one is settled (`Slots._turn`: the slot looked up by identity alone).
    """
    stubborn = Stubborn()
    async with stubborn.at_work(outside(stubborn, AtMostOnce()), url) as process:
        process.source.add("orders", Order("stuck"))
        await process.until(lambda: process.source.settled)
        entry = await process.entry("stuck")
        resolution = Resolution(entry.identity, entry.token, State.WAITING, "the provider has no trace of it")
        assert await process.store.operator.resolve(resolution)
        await process.until(lambda: stubborn.starts["stuck"] == 2)
        first, second = stubborn.tokens
        assert second > first
        stubborn.ends[0].set()
        await process.until(lambda: process.running.runtime.slots.running == 1)
        await process.until(lambda: _told(process, "second_effect_suspected"))
        entry = await process.entry("stuck")
        assert entry.state is not State.DONE, "the first one's result was refused"
        assert process.running.runtime.slots.held() == {entry.identity: second}, (
            "the second one still has its slot"
        )
        stubborn.free()
        await process.until(lambda: process.running.runtime.slots.running == 0)
        done = await process.entry("stuck")
        assert (done.state, done.token, done.result) == (State.DONE, second, b'"stuck 1"')


async def _told(process: Shop, event: str) -> bool:
    return event in [line.event for line in (await process.entry("stuck")).story]


async def test_at_least_once_overlaps_and_the_highest_token_wins(url: str) -> None:
    stubborn = Stubborn(overrun=range(1))
    mode = AtLeastOnce(retry=Backoff(3, first=0))
    async with stubborn.at_work(outside(stubborn, mode), url) as process:
        for key in ("a", "stuck", "b"):
            process.source.add("orders", Order(key))
        await process.until(lambda: stubborn.starts["stuck"] == 2)
        assert process.running.runtime.slots.running == 2
        stubborn.ends[1].set()
        await process.until(lambda: _is(process, State.DONE))
        stubborn.free()
        await process.until(lambda: process.running.runtime.slots.running == 0)
        entry = await process.entry("stuck")
        assert (entry.state, entry.result, entry.token) == (State.DONE, b'"stuck 1"', stubborn.tokens[1])
        assert process.source.settled
    assert stubborn.tokens[0] < stubborn.tokens[1]


async def _is(process: Shop, state: State) -> bool:
    return (await process.entry("stuck")).state is state


@pytest.mark.parametrize("do", ["return", "raise"])
async def test_transactional_gives_the_lane_back(do: str, url: str) -> None:
    """Its transaction is rolled back under it; when it ends at last it starts nothing and writes nothing."""
    stubborn = Stubborn()
    async with stubborn.at_work(inside(stubborn), url) as process:
        for key in ("a", "stuck", "b", "c"):
            process.source.add("orders", Order(key, do))
        await process.rest_but_left_behind()
        assert await process.states() == {"a": "done", "b": "done", "c": "done", "stuck": "dead"}
        entry = await process.entry("stuck")
        assert (entry.attempts, entry.reason) == (2, "no result within 30 s, and it runs on")
        assert await process.effects() == ["a", "b", "c"]
        started = stubborn.starts["stuck"]
        assert len(process.running.runtime.lanes.left_behind) == started
        stubborn.free()
        await process.until(lambda: not process.running.runtime.lanes.left_behind)
        await process.rest()
        assert stubborn.starts["stuck"] == started
        assert (await process.entry("stuck")) == entry
        assert await process.effects() == ["a", "b", "c"]


async def test_the_end_of_one_handler_does_not_acknowledge_for_another(url: str) -> None:
    """Two handlers share a topic. One is settled twice, by its time-out and late; the other has not ended yet.

    Mutant: `InHand` that counts permissions instead of naming their handlers.
    """
    stubborn = Stubborn()
    app = outside(stubborn, AtMostOnce())
    slow = asyncio.Event()

    @app.on("orders", key=Key.field("id"), mode=AtMostOnce(), name="slow")
    async def slowly(order: Order) -> None:
        await slow.wait()

    async with stubborn.at_work(app, url) as process:
        process.source.add("orders", Order("stuck"))
        await process.until(lambda: process.running.runtime.slots.stuck == 1)
        stubborn.free()
        await process.until(lambda: _done(process, "orders"))
        await process.until(lambda: process.running.runtime.slots.running == 1)
        assert process.source.acks == []
        slow.set()
        await process.rest()
        assert process.source.acks == [("orders", 0, 0)]


async def _done(process: Shop, handler: str) -> bool:
    return (await process.entry("stuck", handler)).state is State.DONE


async def test_given_up_and_completed_before_the_store_is_back(url: str) -> None:
    """Both settles wait for the store. The completion is what is known: it must be what remains.

    Mutant: `Slots._next_finished` that hands out both at once.
    """
    stubborn, weather = Stubborn(overrun=range(0)), Weather()
    async with stubborn.at_work(
        outside(stubborn, AtMostOnce()), url, wrap=weather.wrap, reconnect=False
    ) as process:
        process.source.add("orders", Order("brief"))
        process.source.add("orders", Order("stuck"))
        await process.until(lambda: stubborn.starts.total() == 2)
        slots = process.running.runtime.slots
        weather.down = True
        stubborn.overrun_now(stubborn.tasks[0])
        stubborn.brief.set()
        while not slots.stuck:
            await weather.next_refusal()
        stubborn.free()
        while len(slots._finished) < 2:  # behind the turn of the other key, which is not answered
            await weather.next_refusal()
        assert slots._unanswered is not None
        weather.down = False
        await process.until(lambda: not slots.running and not slots._finished and not slots._unanswered)
        entry = await process.entry("stuck")
        assert (entry.state, entry.result) == (State.DONE, b'"stuck 0"')
        assert process.source.settled


@pytest.mark.parametrize("ends_meanwhile", [False, True])
async def test_given_up_while_the_store_is_away(ends_meanwhile: bool, url: str) -> None:
    """The attempt cannot be written down at once: its delivery is not forgotten, and nobody starts it unwatched.

    Mutants: `Lanes._given_up` without the question that is asked again; `attempt` that tells the verdict of an
    abandoned one (then its old group would run it again, in no lane).
    """
    stubborn, weather = Stubborn(overrun=range(1, 10)), Weather()
    async with stubborn.at_work(inside(stubborn), url, wrap=weather.wrap, reconnect=False) as process:
        process.source.add("orders", Order("stuck", "raise"))
        await process.until(lambda: stubborn.starts["stuck"] == 1)
        weather.down = True
        stubborn.overrun_now(stubborn.tasks[0])
        while not process.running.runtime.lanes.left_behind:
            await weather.next_refusal()
        refused = weather.refused
        while weather.refused < refused + 4:  # the three tries of one turn, and more
            await weather.next_refusal()
        weather.down = False
        if ends_meanwhile:
            stubborn.ends[0].set()
        await process.rest_but_left_behind()
        assert (await process.entry("stuck")).state is State.DEAD
        assert process.source.settled
        stubborn.free()
        await process.until(lambda: not process.running.runtime.lanes.left_behind)
