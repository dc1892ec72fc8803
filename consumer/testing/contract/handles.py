"""`Store`: handles as such, and calls that are cut short."""

from __future__ import annotations

import asyncio
import contextlib

from consumer.entry import Kind, Settled, State, Won
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import BODY, claim, end, landing, outgoing, process

__all__ = ["CHAPTER"]

CHAPTER = Chapter("handles")


@CHAPTER.case()
async def a_handle_says_what_its_store_can_do(backend: Backend) -> None:
    """The declared capabilities, and groups exactly where there are transactions."""
    store = await backend.open()
    assert store.capabilities == backend.capabilities
    assert (store.groups is not None) == store.capabilities.transactions


@CHAPTER.case()
async def handles_share_their_data(backend: Backend) -> None:
    """Whatever one has done the next one sees, also when the first is closed."""
    here = await process(backend)
    await here.bring("k-1", State.DONE)
    there = await process(backend)
    assert (await there.entry(claim())).state is State.DONE
    await here.store.close()
    assert (await there.entry(claim())).state is State.DONE
    assert await there.store.arrivals.land([landing("k-2")])


@CHAPTER.case("durable")
async def data_outlive_every_handle(backend: Backend) -> None:
    """Entries, stories and messages are there when a later process opens the store; tokens go on rising."""
    here = await process(backend)
    await here.bring("waiting", State.WAITING)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.COMPLETE, result=b"receipt", outgoing=[outgoing("o")])
    before = {row.key: await here.entry(claim(row.key)) for row in await here.store.operator.entries()}
    await here.store.close()
    later = await process(backend)
    assert {
        row.key: await later.entry(claim(row.key)) for row in await later.store.operator.entries()
    } == before
    assert await later.sent_out() == ["o"]
    assert (await later.win(claim("new"))).token > win.token


@CHAPTER.case()
async def a_handle_may_be_closed_twice(backend: Backend) -> None:
    """Closing never raises, whatever is still running."""
    here = await process(backend)
    await here.win(claim())
    await here.store.close()
    await here.store.close()


@CHAPTER.case()
async def a_migration_may_be_repeated(backend: Backend) -> None:
    """Also by two at once and as a dry run: nothing is left to do, and no data are lost."""
    one, two = await process(backend), await process(backend)
    await one.bring("k-1", State.DONE)
    assert await one.store.migrate(dry_run=True) == []
    left, right = await asyncio.gather(one.store.migrate(), two.store.migrate())
    assert (left, right) == ([], [])
    assert (await two.entry(claim())).state is State.DONE


@CHAPTER.case()
async def a_cancelled_turn_is_whole_or_nothing(backend: Backend) -> None:
    """Whoever asks the same again finds everything as if the first reply had been lost."""
    here = await process(backend)
    for round_ in range(5):
        wishes = [claim(f"{round_}-{number}") for number in range(20)]
        _, answers = await here.store.inbox.turn(here.worker, [], wishes)
        settles = [
            end(wish, answer.token, Kind.COMPLETE, result=b"r", outgoing=[outgoing(f"{wish.key!r}")])
            for wish, answer in zip(wishes, answers, strict=True)
            if isinstance(answer, Won)
        ]
        claims = [claim(f"{round_}-next-{number}") for number in range(20)]
        turn = asyncio.create_task(here.store.inbox.turn(here.worker, settles, claims))
        for _ in range(round_):
            await asyncio.sleep(0)
        turn.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turn
        settled, answers = await here.store.inbox.turn(here.worker, settles, claims)
        assert settled == [Settled.OK] * 20
        assert [answer.attempt for answer in answers if isinstance(answer, Won)] == [1] * 20
    assert len(await here.sent_out()) == len(set(await here.sent_out())) == 100


@CHAPTER.case()
async def a_cancelled_landing_is_whole_or_nothing(backend: Backend) -> None:
    """All of its entries are there, or none."""
    here = await process(backend)
    for round_ in range(5):
        batch = [landing(f"{round_}-{number}", message=BODY) for number in range(20)]
        land = asyncio.create_task(here.store.arrivals.land(batch))
        for _ in range(round_):
            await asyncio.sleep(0)
        land.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await land
        landed = await here.store.arrivals.land(batch)
        assert len(set(landed)) == 1, landed
    assert len(await here.due(limit=200)) == 100
