"""Lanes: what has one ordering key starts one at a time, in the order in which it was landed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.entry import Held, Kind, Landed, OnLapse, Settle, State, Taken, Won
from consumer.ports.inbox import Group
from consumer.ports.store import Store
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    HANDLER,
    LATER,
    Process,
    claim,
    end,
    landing,
    only,
    outgoing,
    present,
    process,
    resolution,
    won,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("lanes")

LANE = b"acc-1"


async def _line(here: Process, *keys: str, budget: int = 5, on_lapse: OnLapse = OnLapse.WAITING) -> None:
    """Land these keys in one lane, one call each."""
    for key in keys:
        landed = await here.store.arrivals.land([landing(key, lane=LANE, budget=budget, on_lapse=on_lapse)])
        assert landed == [Landed.NEW]


async def _head(here: Process) -> Taken:
    """Take what is due, which must be one entry."""
    return only(await here.due())


async def _open(store: Store) -> Group:
    assert store.groups is not None
    return await store.groups.open()


def _hinted(settle: Settle) -> Settle:
    return msgspec.structs.replace(settle, in_lane=True)


def _keys(found: Sequence[Taken]) -> list[bytes]:
    return [entry.key for entry in found]


@CHAPTER.case("lanes")
async def only_the_head_of_a_lane_is_due(backend: Backend) -> None:
    """The others of its lane stand behind it, whatever their number; they come with their lane."""
    here, there = await process(backend), await process(backend)
    await _line(here, "k-1", "k-2", "k-3")
    head = await _head(there)
    assert (head.key, head.lane) == (b"k-1", LANE)
    await backend.hasten()
    assert await here.due() == []
    assert await there.due() == []


@CHAPTER.case("lanes")
async def lanes_do_not_wait_for_each_other(backend: Backend) -> None:
    """A lane is one ordering key of one tenant of one handler of one app; what has no lane waits for nobody."""
    here, other = await process(backend), await process(backend, "other")
    await here.store.arrivals.land(
        [
            landing("k-1", lane=LANE),
            landing("k-2", lane=b"acc-2"),
            landing("k-3", lane=LANE, tenant="acme"),
            landing("k-4", lane=LANE, handler="refunds"),
            landing("k-5"),
            landing("k-6"),
            landing("k-7", lane=b""),
            landing("k-8", lane=LANE),
        ]
    )
    await other.store.arrivals.land([landing("k-9", app="other", lane=LANE)])
    found = await here.due(handlers=[HANDLER, "refunds"])
    assert sorted(_keys(found)) == [b"k-1", b"k-2", b"k-3", b"k-4", b"k-5", b"k-6", b"k-7"]
    assert _keys(await other.due()) == [b"k-9"]


@CHAPTER.case("lanes")
async def a_claim_of_what_stands_behind_is_held(backend: Backend) -> None:
    """It is received and holds its bytes; the same claim is won when its turn has come."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    await backend.hasten()
    wish = claim("k-2", stored=True)
    held = await here.held(wish)
    assert (held.state, held.stored) == (State.RECEIVED, True)
    assert isinstance(only(await here.store.inbox.look([wish])), Held)
    head = await here.win(claim("k-1", stored=True))
    assert (await here.held(wish)).state is State.RECEIVED
    await here.ended(claim("k-1"), head.token, Kind.COMPLETE)
    assert only(await here.store.inbox.look([wish])) is None
    assert (await here.win(wish)).attempt == 1


@CHAPTER.case("lanes")
async def the_next_starts_when_the_first_is_done(backend: Backend) -> None:
    """Each in its turn, whether or not the settle says that it is in a lane."""
    here = await process(backend)
    await _line(here, "k-1", "k-2", "k-3")
    for key, hint in ((b"k-1", False), (b"k-2", True), (b"k-3", False)):
        head = await _head(here)
        assert head.key == key
        one = end(head, head.token, Kind.COMPLETE, result=b"receipt")
        settled, _ = await here.store.inbox.turn(here.worker, [_hinted(one) if hint else one], [])
        assert [word.value for word in settled] == ["ok"]
        entry = await here.entry(head)
        assert (entry.state, entry.result, entry.lane) == (State.DONE, b"receipt", LANE)
    assert await here.due() == []


@CHAPTER.case("lanes")
async def what_waits_holds_its_lane(backend: Backend) -> None:
    """A retry keeps its place, also while it is not due; nobody passes it."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    head = await _head(here)
    await here.ended(head, head.token, Kind.RETRY, reason="busy", delay=LATER)
    assert await here.due() == []
    await backend.hasten()
    again = await _head(here)
    assert (again.key, again.attempt) == (b"k-1", 2)
    await here.ended(again, again.token, Kind.RELEASE)
    assert (await _head(here)).key == b"k-1"


@CHAPTER.case("lanes")
async def what_is_in_doubt_holds_its_lane(backend: Backend) -> None:
    """Until the doubt is ended, by whomever and however."""
    here = await process(backend)
    for to in (State.DONE, State.DEAD):
        await _line(here, f"{to.word}-1", f"{to.word}-2")
        head = await _head(here)
        await here.ended(head, head.token, Kind.DOUBT, reason="no reply", delay=0.0)
        await backend.hasten()
        assert await here.due() == []
        assert await here.store.doubts.resolve(resolution(head, head.token, to))
        following = await _head(here)
        assert following.key == f"{to.word}-2".encode()
        await here.ended(following, following.token, Kind.COMPLETE)
    await _line(here, "k-1", "k-2")
    head = await _head(here)
    await here.ended(head, head.token, Kind.DOUBT, reason="no reply", delay=0.0)
    assert await here.store.doubts.resolve(resolution(head, head.token, State.WAITING))
    assert (await _head(here)).key == b"k-1"


@CHAPTER.case("lanes")
async def a_late_completion_frees_the_lane(backend: Backend) -> None:
    """By the same token, of an entry in doubt."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    head = await _head(here)
    await here.ended(head, head.token, Kind.DOUBT, reason="no reply", delay=None)
    await here.ended(head, head.token, Kind.COMPLETE)
    assert (await _head(here)).key == b"k-2"


@CHAPTER.case("lanes")
async def the_dead_free_their_lane(backend: Backend) -> None:
    """Buried, or out of attempts; and what is born dead was never in it."""
    here = await process(backend)
    await _line(here, "k-1", "k-2", "k-3", budget=1)
    first = await _head(here)
    await here.ended(first, first.token, Kind.BURY, reason="refused")
    second = await _head(here)
    assert second.key == b"k-2"
    await here.ended(second, second.token, Kind.RETRY, reason="busy")
    assert (await here.entry(second)).state is State.DEAD
    third = await _head(here)
    assert third.key == b"k-3"
    await here.ended(third, third.token, Kind.COMPLETE)
    dead = landing("k-4", lane=LANE, state=State.DEAD, reason="decode: no JSON", keyed=False)
    await here.store.arrivals.land(
        [dead, landing("k-1", lane=LANE, payload=b"other"), landing("k-5", lane=LANE)]
    )
    assert (await _head(here)).key == b"k-5"


@CHAPTER.case("lanes")
async def a_lapse_that_buries_frees_the_lane(backend: Backend) -> None:
    """One that leads to another attempt keeps the place."""
    here, there = await process(backend), await process(backend)
    await _line(here, "k-1", "k-2", budget=2)
    for attempt in (1, 2):
        dying = await process(backend)
        assert (await _head(dying)).attempt == attempt
        assert await here.due() == []
        await backend.kill(dying.store, dying.worker)
        await there.store.workers.lapse()
        only(await there.store.workers.adopt(10))
    assert (await _head(here)).key == b"k-2"


@CHAPTER.case("lanes")
async def a_lane_has_the_order_of_its_landings(backend: Backend) -> None:
    """Over calls and handles, within one call, and past duplicates."""
    here, there = await process(backend), await process(backend)
    keys = [f"k-{number}" for number in range(40)]
    await here.store.arrivals.land([landing(key, lane=LANE) for key in keys[:15]])
    await there.store.arrivals.land([landing(key, lane=LANE) for key in keys[10:30]])
    await here.store.arrivals.land([landing(key, lane=LANE) for key in keys])
    for key in keys:
        head = await _head(there)
        assert head.key == key.encode()
        await there.ended(head, head.token, Kind.COMPLETE)


@CHAPTER.case("lanes")
async def a_delay_is_kept_in_a_lane(backend: Backend) -> None:
    """A delayed head holds the lane; one that stood behind is not due before its own delay is over."""
    here = await process(backend)
    await here.store.arrivals.land([landing("k-1", lane=LANE, delay=LATER), landing("k-2", lane=LANE)])
    assert await here.due() == []
    await backend.hasten()
    head = await _head(here)
    assert head.key == b"k-1"
    await here.store.arrivals.land([landing("k-3", lane=LANE, delay=LATER)])
    await here.ended(head, head.token, Kind.COMPLETE)
    second = await _head(here)
    await here.ended(second, second.token, Kind.COMPLETE)
    assert await here.due() == []
    await backend.hasten()
    assert (await _head(here)).key == b"k-3"


@CHAPTER.case("lanes")
async def a_redriven_entry_joins_at_the_end(backend: Backend) -> None:
    """Others have passed it; where nobody is left it is due at once."""
    here = await process(backend)
    await _line(here, "k-1", "k-2", "k-3")
    first = await _head(here)
    await here.ended(first, first.token, Kind.BURY, reason="refused")
    second = await _head(here)
    assert await here.store.operator.redrive(first.identity, first.token, "mended")
    assert await here.due() == []
    await here.ended(second, second.token, Kind.COMPLETE)
    third = await _head(here)
    assert third.key == b"k-3"
    await here.ended(third, third.token, Kind.BURY, reason="refused")
    again = await _head(here)
    assert (again.key, again.attempt) == (b"k-1", 1)
    await here.ended(again, again.token, Kind.COMPLETE)
    assert await here.store.operator.redrive(third.identity, third.token, "mended")
    assert (await _head(here)).key == b"k-3"


@CHAPTER.case("lanes")
async def a_completion_lands_in_lanes(backend: Backend) -> None:
    """What it publishes to embedded topics stands in line like any landing."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    head = await _head(here)
    await here.ended(head, head.token, Kind.COMPLETE, landings=[landing("k-3", lane=LANE)])
    for key in (b"k-2", b"k-3"):
        head = await _head(here)
        assert head.key == key
        await here.ended(head, head.token, Kind.COMPLETE, outgoing=[outgoing("settled")])


@CHAPTER.case("lanes")
async def people_see_who_waits_behind_whom(backend: Backend) -> None:
    """A list of one lane; each that waits names the head; counts too."""
    here = await process(backend)
    await _line(here, "k-1", "k-2", "k-3")
    await here.store.arrivals.land([landing("k-4", lane=b"acc-2"), landing("k-5")])
    head = await here.win(claim("k-1", stored=True))
    rows = await here.store.operator.entries(lane=LANE)
    assert [(row.key, row.lane) for row in rows] == [(b"k-1", LANE), (b"k-2", LANE), (b"k-3", LANE)]
    assert [row.behind for row in rows] == [None, rows[0].identity, rows[0].identity]
    assert (await here.entry(claim("k-2"))).behind == rows[0].identity
    assert [(row.key, row.lane, row.behind) for row in await here.store.operator.entries(lane=b"acc-2")] == [
        (b"k-4", b"acc-2", None)
    ]
    counts = {count.state: count for count in await here.store.operator.stats()}
    assert (counts[State.RECEIVED].count, counts[State.RECEIVED].behind) == (4, 2)
    assert counts[State.RUNNING].behind == 0
    assert await here.store.arrivals.in_lanes([HANDLER, "refunds"]) == {HANDLER: 4}
    await here.ended(claim("k-1"), head.token, Kind.COMPLETE)
    assert await here.store.arrivals.in_lanes([HANDLER]) == {HANDLER: 3}
    rows = await here.store.operator.entries(lane=LANE)
    assert [row.behind for row in rows] == [None, None, rows[1].identity]


@CHAPTER.case("lanes", "transactions")
async def a_group_takes_the_head_of_each_lane(backend: Backend) -> None:
    """Those behind start when it has committed; when it is undone, nothing has changed."""
    here = await process(backend)
    await here.store.arrivals.land(
        [landing(f"{lane}-{n}", lane=lane.encode()) for n in (1, 2) for lane in ("a", "b", "c")]
    )
    group = await _open(here.store)
    assert sorted(_keys(await group.due([HANDLER], 100))) == [b"a-1", b"b-1", b"c-1"]
    await group.rollback()
    group = await _open(here.store)
    found = {taken.key: taken for taken in await group.due([HANDLER], 100)}
    assert sorted(found) == [b"a-1", b"b-1", b"c-1"]
    await group.unclaim([found[b"b-1"].identity])
    await group.seal()
    await group.commit()
    assert sorted(_keys(await here.due())) == [b"a-2", b"b-1", b"c-2"]


@CHAPTER.case("lanes", "transactions")
async def nobody_passes_an_open_group(backend: Backend) -> None:
    """What it has taken holds its lane until it commits; what is landed meanwhile is not forgotten."""
    here, there = await process(backend), await process(backend)
    await _line(here, "k-1")
    group = await _open(here.store)
    assert _keys(await group.due([HANDLER], 100)) == [b"k-1"]
    if backend.capabilities.dialect != "sqlite":  # there a second writer waits for the group's end
        await _line(there, "k-2")
        assert await there.due() == []
    await group.seal()
    await group.commit()
    if backend.capabilities.dialect == "sqlite":
        await _line(there, "k-2")
    assert (await _head(there)).key == b"k-2"


@CHAPTER.case("lanes", "transactions")
async def a_group_claims_only_heads(backend: Backend) -> None:
    """By key too: what stands behind is held, and so is what runs outside of the group."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    group = await _open(here.store)
    second, first = await group.claim([claim("k-2", stored=True), claim("k-1", stored=True)])
    assert isinstance(second, Held)
    assert won(first).attempt == 1
    await group.fill([(claim("k-1").identity, b"receipt")], [], [landing("k-3", lane=LANE)])
    await group.seal()
    await group.commit()
    for key in (b"k-2", b"k-3"):
        head = await _head(here)
        assert head.key == key
        await here.ended(head, head.token, Kind.COMPLETE)


@CHAPTER.case("lanes", "transactions")
async def a_group_that_takes_a_running_head_frees_the_lane(backend: Backend) -> None:
    """The careful way: claimed with its attempt counted, then done in a transaction."""
    here = await process(backend)
    await _line(here, "k-1", "k-2")
    head = await here.win(claim("k-1", stored=True))
    assert isinstance(head, Won)
    group = await _open(here.store)
    assert await group.take(claim("k-1").identity, head.token)
    await group.seal()
    await group.commit()
    assert (await _head(here)).key == b"k-2"
    assert present(await here.seen(claim("k-1"))).state is State.DONE
