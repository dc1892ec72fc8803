"""`Workers`: signs of life, lapses, adoption."""

from __future__ import annotations

import asyncio

from consumer.entry import Kind, OnLapse, Settled, State
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    TTL,
    Process,
    claim,
    end,
    landing,
    only,
    outgoing,
    process,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("workers")


async def _lapsed(backend: Backend, gone: Process, here: Process) -> None:
    await backend.kill(gone.store, gone.worker)
    assert gone.worker in await here.store.workers.lapse()


@CHAPTER.case()
async def every_worker_has_a_number_of_its_own(backend: Backend) -> None:
    """Also several of one process, and those that were opened after others were closed."""
    here, there = await process(backend), await process(backend)
    more = [await here.store.workers.open(TTL, "again") for _ in range(3)]
    await here.store.workers.close(more[0])
    last = await there.store.workers.open(TTL, "again")
    assert len({here.worker, there.worker, *more, last}) == 6
    assert await there.store.workers.beat(last)


@CHAPTER.case()
async def a_closed_worker_never_revives(backend: Backend) -> None:
    """No beat opens it again, on no handle."""
    here, gone = await process(backend), await process(backend)
    assert await gone.store.workers.beat(gone.worker)
    await gone.store.workers.close(gone.worker)
    for _ in range(2):
        assert not await gone.store.workers.beat(gone.worker)
        assert gone.worker not in await here.store.workers.others(here.worker)
    await gone.store.workers.close(gone.worker)
    assert not await gone.store.workers.beat(gone.worker)


@CHAPTER.case()
async def a_lapsed_worker_never_revives(backend: Backend) -> None:
    """Its beat is refused, and its claims stay its adopters'."""
    here, gone = await process(backend), await process(backend)
    await gone.win(claim())
    await _lapsed(backend, gone, here)
    for _ in range(2):
        assert not await gone.store.workers.beat(gone.worker)
        assert gone.worker not in await here.store.workers.others(here.worker)
    assert len(await here.store.workers.adopt(10)) == 1


@CHAPTER.case()
async def an_unknown_worker_has_no_beat(backend: Backend) -> None:
    """A number that was never given out is as good as closed."""
    here = await process(backend)
    assert not await here.store.workers.beat(here.worker + 1_000)


@CHAPTER.case()
async def only_silent_workers_lapse(backend: Backend) -> None:
    """Whoever shows a sign of life keeps its worker and its claims."""
    here, gone, alive = await process(backend), await process(backend), await process(backend)
    await gone.win(claim("gone"))
    win = await alive.win(claim("alive"))
    assert await here.store.workers.lapse() == []
    await backend.kill(gone.store, gone.worker)
    assert await here.store.workers.lapse() == [gone.worker]
    assert [one.key for one in await here.store.workers.adopt(10)] == [b"gone"]
    assert await alive.store.workers.beat(alive.worker)
    assert await here.store.workers.beat(here.worker)
    await alive.ended(claim("alive"), win.token, Kind.COMPLETE)


@CHAPTER.case()
async def lapse_names_a_worker_until_its_claims_are_adopted(backend: Backend) -> None:
    """On every handle, and again after earlier calls: an adopter may itself have died in between."""
    here, there, gone = await process(backend), await process(backend), await process(backend)
    for key in ("a", "b"):
        await gone.win(claim(key))
    await _lapsed(backend, gone, here)
    assert gone.worker in await there.store.workers.lapse()
    assert len(await here.store.workers.adopt(1)) == 1
    assert gone.worker in await here.store.workers.lapse()
    assert len(await there.store.workers.adopt(1)) == 1
    assert await here.store.workers.lapse() == []
    assert await here.store.workers.adopt(10) == []


@CHAPTER.case()
async def two_adopters_share_the_claims(backend: Backend) -> None:
    """Who lapses and adopts at once never applies a lapse to one entry twice."""
    one, two, gone = await process(backend), await process(backend), await process(backend)
    await gone.store.inbox.turn(gone.worker, [], [claim(f"k-{number}", message=BODY) for number in range(60)])
    await backend.kill(gone.store, gone.worker)
    await asyncio.gather(one.store.workers.lapse(), two.store.workers.lapse())
    keys: list[bytes] = []
    for _ in range(40):
        left, right = await asyncio.gather(one.store.workers.adopt(10), two.store.workers.adopt(10))
        keys += [adopted.key for adopted in (*left, *right)]
        if not left and not right:
            break
    assert len(keys) == len(set(keys)) == 60
    for entry in await one.store.operator.find(b"k-7"):
        assert [line.event for line in entry.story] == ["lapse"]


@CHAPTER.case()
async def a_lapse_to_in_doubt(backend: Backend) -> None:
    """Due at once for reconcile; the token stays, so the attempt may still say how it ended."""
    here, gone = await process(backend), await process(backend)
    win = await gone.win(claim(message=BODY))
    await _lapsed(backend, gone, here)
    adopted = only(await here.store.workers.adopt(10))
    assert (adopted.identity, adopted.handler, adopted.key) == (claim().identity, HANDLER, b"k-1")
    assert adopted.state is State.IN_DOUBT
    entry = await here.entry(claim())
    assert (entry.state, entry.token, entry.attempts, entry.worker) == (State.IN_DOUBT, win.token, 1, None)
    line = only(entry.story)
    assert (line.event, line.token, line.attempt) == ("lapse", win.token, 1)
    asked = only(await here.doubts())
    assert (asked.token, asked.message) == (win.token, BODY)
    await gone.ended(claim(), win.token, Kind.COMPLETE, result=b"late")
    assert (await here.entry(claim())).result == b"late"


@CHAPTER.case()
async def a_lapse_to_waiting(backend: Backend) -> None:
    """Due now; the attempt counts; another worker starts it with a higher token."""
    here, gone = await process(backend), await process(backend)
    win = await gone.win(claim(on_lapse=OnLapse.WAITING, message=BODY))
    await _lapsed(backend, gone, here)
    adopted = only(await here.store.workers.adopt(10))
    assert adopted.state is State.WAITING
    entry = await here.entry(claim())
    assert (entry.state, entry.token, entry.attempts, entry.worker) == (State.WAITING, win.token, 1, None)
    assert [line.event for line in entry.story] == ["lapse"]
    taken = only(await here.due())
    assert taken.attempt == 2
    assert taken.token > win.token
    assert await gone.settle(end(claim(), win.token, Kind.COMPLETE)) is Settled.LOST


@CHAPTER.case()
async def a_lapse_to_waiting_without_bytes(backend: Backend) -> None:
    """`due` does not yield it; its redelivery wins it."""
    here, gone = await process(backend), await process(backend)
    await gone.win(claim(on_lapse=OnLapse.WAITING))
    await _lapsed(backend, gone, here)
    assert len(await here.store.workers.adopt(10)) == 1
    assert await here.due() == []
    assert (await here.win(claim())).attempt == 2


@CHAPTER.case()
async def a_lapse_with_a_spent_budget_buries(backend: Backend) -> None:
    """A message that kills its process is bounded: dead after `budget` starts, with the story line `lapse`."""
    here = await process(backend)
    await here.store.arrivals.land([landing(on_lapse=OnLapse.WAITING, budget=3)])
    for start in (1, 2, 3):
        gone = await process(backend)
        assert only(await gone.due()).attempt == start
        await _lapsed(backend, gone, here)
        adopted = only(await here.store.workers.adopt(10))
        assert adopted.state is (State.DEAD if start == 3 else State.WAITING)
    entry = await here.entry(landing())
    assert (entry.state, entry.attempts, entry.message, entry.due_at) == (State.DEAD, 3, BODY, None)
    assert [line.event for line in entry.story] == ["lapse"] * 3


@CHAPTER.case()
async def adopt_leaves_the_claims_of_open_workers(backend: Backend) -> None:
    """A worker must be closed first, however long its silence."""
    here, gone = await process(backend), await process(backend)
    await gone.win(claim("gone"))
    await here.win(claim("here"))
    await backend.kill(gone.store, gone.worker)
    assert await here.store.workers.adopt(10) == []
    assert (await here.entry(claim("gone"))).state is State.RUNNING


@CHAPTER.case()
async def what_a_clean_close_leaves_is_adopted(backend: Backend) -> None:
    """A worker that was closed with claims still running is not unclean, but they lapse."""
    here, gone = await process(backend), await process(backend)
    await gone.win(claim())
    await gone.store.workers.close(gone.worker)
    assert await here.store.workers.lapse() == []
    assert [one.state for one in await here.store.workers.adopt(10)] == [State.IN_DOUBT]


@CHAPTER.case()
async def lapsed_are_those_that_did_not_say_goodbye(backend: Backend) -> None:
    """With claims or without, on every handle, for good; never one that left, nor one that is open."""
    here, there = await process(backend), await process(backend)
    left, gone, idle = await process(backend), await process(backend), await process(backend)
    await gone.win(claim())
    await left.store.workers.close(left.worker)
    assert await here.store.workers.lapsed(0) == set()
    for dead in (gone, idle):
        await backend.kill(dead.store, dead.worker)
    await here.store.workers.lapse()
    for store in (here.store, there.store):
        assert await store.workers.lapsed(0) == {gone.worker, idle.worker}
    await here.store.workers.adopt(10)
    await left.store.workers.close(left.worker)
    await gone.store.workers.close(gone.worker)
    later = await process(backend)
    assert await later.store.workers.lapsed(0) == {gone.worker, idle.worker}
    await later.store.workers.close(later.worker)
    assert await there.store.workers.lapsed(0) == {gone.worker, idle.worker}


@CHAPTER.case()
async def lapsed_names_those_of_a_number_and_above(backend: Backend) -> None:
    """Numbers rise with every worker; another app's are another app's."""
    here, other = await process(backend), await process(backend, app="other")
    dead = [await process(backend) for _ in range(3)]
    numbers = [one.worker for one in dead]
    assert numbers == sorted(numbers)
    for one in (*dead, other):
        await backend.kill(one.store, one.worker)
    await here.store.workers.lapse()
    for first in range(3):
        assert await here.store.workers.lapsed(numbers[first]) == set(numbers[first:])
    assert await here.store.workers.lapsed(numbers[-1] + 1) == set()


@CHAPTER.case()
async def others_grow_with_every_beat(backend: Backend) -> None:
    """The open workers of this app but oneself; whose number grows is alive."""
    here, there = await process(backend), await process(backend)
    other = await process(backend, app="other")
    last = await here.store.workers.others(here.worker)
    assert set(last) == {there.worker}
    for _ in range(3):
        assert await there.store.workers.beat(there.worker)
        now = await here.store.workers.others(here.worker)
        assert now[there.worker] > last[there.worker]
        last = now
    assert await here.store.workers.others(here.worker) == last
    assert await other.store.workers.others(other.worker) == {}


@CHAPTER.case()
async def claims_are_what_a_worker_runs(backend: Backend) -> None:
    """Identity, token and handler of its running entries, whichever verb claimed them."""
    here, there = await process(backend), await process(backend)
    assert await here.store.workers.claims(here.worker) == []
    first = await here.win(claim("a", handler="ship"))
    await there.win(claim("theirs"))
    await here.store.arrivals.land([landing("b")])
    taken = only(await here.due())
    wanted = {
        (claim("a", handler="ship").identity, first.token, "ship"),
        (taken.identity, taken.token, HANDLER),
    }
    assert set(await there.store.workers.claims(here.worker)) == wanted
    await here.ended(taken, taken.token, Kind.COMPLETE)
    await here.ended(claim("a", handler="ship"), first.token, Kind.RETRY)
    assert await here.store.workers.claims(here.worker) == []


@CHAPTER.case()
async def apps_do_not_lapse_each_other(backend: Backend) -> None:
    """A handle closes and adopts workers of its own app only."""
    here, other = await process(backend), await process(backend, app="other")
    await other.win(claim(app="other"))
    await backend.kill(other.store, other.worker)
    assert await here.store.workers.lapse() == []
    assert await here.store.workers.adopt(10) == []
    heir = await process(backend, app="other")
    assert await heir.store.workers.lapse() == [other.worker]
    assert len(await heir.store.workers.adopt(10)) == 1


@CHAPTER.case()
async def an_adopted_entry_is_settled_once(backend: Backend) -> None:
    """A late completion and its repetition: accepted, then the same again, and its messages leave once."""
    here, gone = await process(backend), await process(backend)
    win = await gone.win(claim())
    await _lapsed(backend, gone, here)
    await here.store.workers.adopt(10)
    settle = end(claim(), win.token, Kind.COMPLETE, result=b"r", outgoing=[outgoing("once")])
    assert [await gone.settle(settle) for _ in range(2)] == [Settled.OK, Settled.OK]
    assert await here.sent_out() == ["once"]
    assert [line.event for line in (await here.entry(claim())).story] == ["lapse", "late"]


@CHAPTER.case()
async def a_doubt_waits_out_its_patience(backend: Backend) -> None:
    """Reconcile is not asked before the lapse plus the handler's time-out: a paused worker may still be running it."""
    here, gone = await process(backend), await process(backend)
    await gone.win(claim("soon", handler="pay", message=BODY))
    await gone.win(claim("late", handler="ship", message=BODY))
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    assert len(await here.store.workers.adopt(10, {"ship": 3600.0})) == 2
    asked = await here.store.doubts.ask(["pay", "ship"], 10, 60.0, 5)
    assert [taken.key for taken in asked] == [b"soon"]
    await backend.hasten()
    asked = await here.store.doubts.ask(["ship"], 10, 60.0, 5)
    assert [taken.key for taken in asked] == [b"late"]
