"""`Group.due` and `Group.take`: stored entries that become done in the transaction of their handlers."""

from __future__ import annotations

import asyncio

from consumer.entry import Kind, State, Taken
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.ledger import finish, group
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    Process,
    body,
    claim,
    landing,
    only,
    process,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("takes")

_PROMPT = 5.0
"""Seconds within which somebody who does not wait has answered on a busy machine."""


@CHAPTER.case("transactions")
async def a_group_takes_what_is_due(backend: Backend) -> None:
    """Oldest due first, up to the limit, with bytes, of the handlers asked for; done after the commit."""
    here = await process(backend)
    delays = {"c": 300.0, "a": 100.0, "b": 200.0}
    await here.store.arrivals.land(
        [landing(key, message=body(key.encode()), delay=delays[key]) for key in delays]
    )
    await here.store.arrivals.land([landing("ship", handler="ship")])
    await here.bring("bare", State.WAITING, message=None)
    await backend.hasten()
    await here.store.arrivals.land([landing("later", delay=LATER)])
    async with group(here) as opened:
        taken = await opened.due([HANDLER], 2)
        taken += await opened.due([HANDLER], 10)
        assert await opened.due([HANDLER], 10) == []
        await finish(opened)
    assert [row.key for row in taken] == [b"a", b"b", b"c"]
    for row in taken:
        wish = landing(row.key)
        assert (row.identity, row.fingerprint, row.message) == (
            wish.identity,
            wish.fingerprint,
            body(row.key),
        )
        assert (row.tenant, row.handler, row.attempt, row.keyed) == ("public", HANDLER, 1, True)
        entry = await here.entry(wish)
        assert (entry.state, entry.token, entry.attempts, entry.due_at) == (State.DONE, row.token, 1, None)
    assert (await here.entry(landing("ship", handler="ship"))).state is State.RECEIVED
    assert (await here.entry(claim("bare"))).state is State.WAITING


@CHAPTER.case("transactions")
async def a_group_takes_unkeyed_entries_too(backend: Backend) -> None:
    """The path undoes them, and they are as they were."""
    here = await process(backend)
    born_dead = landing("payments/3/41", state=State.DEAD, reason="decode", keyed=False)
    await here.store.arrivals.land([born_dead])
    await here.store.operator.redrive(born_dead.identity, (await here.entry(born_dead)).token, "mended")
    before = await here.entry(born_dead)
    async with group(here) as opened:
        taken = only(await opened.due([HANDLER], 10))
        assert (taken.keyed, taken.message) == (False, BODY)
        await opened.unclaim([taken.identity])
        await finish(opened)
    assert await here.entry(born_dead) == before


@CHAPTER.case("transactions", "shared")
async def due_skips_what_another_group_holds(backend: Backend) -> None:
    """It neither takes it nor waits for it; where the store has one writer it waits for its turn, and finds nothing."""
    here, there = await process(backend), await process(backend)
    await here.store.arrivals.land([landing("a")])
    lanes = 0 if here.store.groups is None else here.store.groups.lanes
    async with group(here) as opened:
        assert only(await opened.due([HANDLER], 10)).key == b"a"
        beside = asyncio.create_task(there.due())
        await asyncio.wait([beside], timeout=_PROMPT if lanes > 1 else 0.2)
        assert beside.done() or lanes == 1, "due waits for another group's commit"
        await finish(opened)
    assert await beside == []
    assert (await here.entry(landing("a"))).state is State.DONE


@CHAPTER.case("transactions", "shared")
async def two_groups_take_different_entries(backend: Backend) -> None:
    """Side by side where the store can, else one after the other."""
    one, two = await process(backend), await process(backend)
    await one.store.arrivals.land([landing(f"k-{number}") for number in range(60)])

    async def run(here: Process) -> list[Taken]:
        async with group(here) as opened:
            taken = await opened.due([HANDLER], 10)
            await finish(opened)
        return taken

    keys: list[bytes] = []
    for _ in range(20):
        left, right = await asyncio.gather(run(one), run(two))
        keys += [row.key for row in (*left, *right)]
        if not left and not right:
            break
    assert len(keys) == len(set(keys)) == 60
    assert len(await one.store.operator.entries(states=[State.DONE])) == 60


@CHAPTER.case("transactions")
async def take_makes_a_running_entry_done(backend: Backend) -> None:
    """By its token only: the careful way, claimed in a short transaction before."""
    here = await process(backend)
    win = await here.win(claim(message=BODY))
    async with group(here) as opened:
        assert not await opened.take(claim().identity, win.token + 1)
        assert not await opened.take(claim("absent").identity, win.token)
        assert await opened.take(claim().identity, win.token)
        await opened.fill([(claim().identity, b"receipt")], [], [])
        await finish(opened)
    entry = await here.entry(claim())
    assert (entry.state, entry.result, entry.token, entry.attempts) == (State.DONE, b"receipt", win.token, 1)
    assert entry.worker is None
    assert await here.store.workers.claims(here.worker) == []
    async with group(here) as opened:
        assert not await opened.take(claim().identity, win.token)
        await finish(opened)


@CHAPTER.case("transactions")
async def a_rolled_back_take_is_still_running(backend: Backend) -> None:
    """And is settled by its token, with what the attempt has cost."""
    here = await process(backend)
    win = await here.win(claim(budget=1))
    async with group(here) as opened:
        assert await opened.take(claim().identity, win.token)
        await opened.rollback()
    entry = await here.entry(claim())
    assert (entry.state, entry.worker, entry.token) == (State.RUNNING, here.worker, win.token)
    await here.ended(claim(), win.token, Kind.RETRY, reason="failed", message=BODY)
    assert (await here.entry(claim())).state is State.DEAD


@CHAPTER.case("transactions")
async def take_does_not_find_what_has_lapsed(backend: Backend) -> None:
    """The worker was closed and its claim adopted: its handler must not run."""
    here, gone = await process(backend), await process(backend)
    win = await gone.win(claim())
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    await here.store.workers.adopt(10)
    async with group(gone) as opened:
        assert not await opened.take(claim().identity, win.token)
        await opened.rollback()
    assert (await here.entry(claim())).state is State.IN_DOUBT
