"""`Arrivals`: landing, and what is due."""

from __future__ import annotations

import asyncio

import msgspec

from consumer.entry import Kind, Landed, OnLapse, State
from consumer.errors import StoreUnavailable
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    body,
    claim,
    landing,
    only,
    process,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("arrivals")


@CHAPTER.case()
async def a_landing_is_received_with_its_bytes(backend: Backend) -> None:
    """A new entry without an attempt, due now, kept for every other handle to see."""
    here, there = await process(backend), await process(backend)
    assert await here.store.arrivals.land([landing(tenant="acme")]) == [Landed.NEW]
    entry = await there.entry(landing(tenant="acme"))
    assert (entry.app, entry.tenant, entry.handler, entry.key) == ("shop", "acme", HANDLER, b"k-1")
    assert (entry.state, entry.attempts, entry.message, entry.worker) == (State.RECEIVED, 0, BODY, None)
    assert entry.due_at is not None
    assert entry.keyed
    assert only(await there.due()).tenant == "acme"


@CHAPTER.case()
async def a_second_landing_changes_nothing(backend: Backend) -> None:
    """Same raw key and fingerprint: a duplicate in every state, even with other bytes."""
    here = await process(backend)
    for state in State:
        if state is State.ABSENT:
            continue
        wish = await here.bring(state.word, state)
        before = await here.entry(wish)
        again = landing(state.word, message=body(b"again"))
        assert await here.store.arrivals.land([again]) == [Landed.DUPLICATE], state
        assert await here.entry(wish) == before


@CHAPTER.case()
async def a_landing_brings_missing_bytes(backend: Backend) -> None:
    """To an entry that is waiting, in doubt or dead; a running or done one is left alone."""
    here = await process(backend)
    for state in (State.WAITING, State.IN_DOUBT, State.DEAD, State.RUNNING, State.DONE):
        wish = await here.bring(state.word, state, message=None)
        assert await here.store.arrivals.land([landing(state.word)]) == [Landed.DUPLICATE]
        entry = await here.entry(wish)
        assert entry.state is state
        assert entry.message == (None if state in {State.RUNNING, State.DONE} else BODY), state
    assert only(await here.due()).key == b"waiting"


@CHAPTER.case()
async def a_conflict_is_born_dead_beside_the_entry(backend: Backend) -> None:
    """Another fingerprint: the key's entry is left alone in every state; a second time nothing is born."""
    here = await process(backend)
    for state in State:
        if state is State.ABSENT:
            continue
        wish = await here.bring(state.word, state)
        before = await here.entry(wish)
        conflict = landing(state.word, payload=b"other", message=body(b"other"), tenant="public")
        assert await here.store.arrivals.land([conflict]) == [Landed.CONFLICT]
        assert await here.entry(wish) == before
        assert await here.store.arrivals.land([conflict]) == [Landed.CONFLICT]
        found = await here.store.operator.find(wish.key)
        born_dead = only([entry for entry in found if entry.identity != wish.identity])
        assert born_dead.identity == conflict.conflict_identity
        assert (born_dead.state, born_dead.message, born_dead.keyed) == (State.DEAD, conflict.message, False)
        assert (born_dead.handler, born_dead.due_at) == (HANDLER, None)
        assert (born_dead.reason or "").startswith("conflict")


@CHAPTER.case()
async def another_raw_key_is_a_conflict_too(backend: Backend) -> None:
    """The raw key is compared on a hit of the identity."""
    here = await process(backend)
    await here.store.arrivals.land([landing()])
    clash = msgspec.structs.replace(landing("other"), identity=landing().identity)
    assert await here.store.arrivals.land([clash]) == [Landed.CONFLICT]
    assert (await here.entry(landing())).key == b"k-1"
    assert [row.key for row in await here.store.operator.entries(states=[State.DEAD])] == [b"other"]


@CHAPTER.case()
async def two_landings_of_one_key_in_one_call(backend: Backend) -> None:
    """They count one after the other: a duplicate of the first, or a conflict with it."""
    here = await process(backend)
    landed = await here.store.arrivals.land(
        [
            landing("a"),
            landing("b"),
            landing("a"),
            landing("b", payload=b"other"),
            landing("b", payload=b"other"),
        ]
    )
    assert landed == [Landed.NEW, Landed.NEW, Landed.DUPLICATE, Landed.CONFLICT, Landed.CONFLICT]
    assert sorted(taken.key for taken in await here.due()) == [b"a", b"b"]
    assert len(await here.store.operator.entries(states=[State.DEAD])) == 1


@CHAPTER.case()
async def what_cannot_be_keyed_is_born_dead(backend: Backend) -> None:
    """Under an identity of its own, with bytes and reason; never due; the same bytes again are a duplicate."""
    here = await process(backend)
    born_dead = landing("payments/3/41", state=State.DEAD, reason="decode: not JSON", keyed=False)
    assert await here.store.arrivals.land([born_dead, born_dead]) == [Landed.NEW, Landed.DUPLICATE]
    entry = await here.entry(born_dead)
    assert (entry.state, entry.reason, entry.message, entry.keyed) == (
        State.DEAD,
        "decode: not JSON",
        BODY,
        False,
    )
    assert (entry.attempts, entry.due_at) == (0, None)
    await backend.hasten()
    assert await here.due() == []


@CHAPTER.case()
async def what_cannot_be_keyed_is_the_same_at_another_place(backend: Backend) -> None:
    """Its identity is a digest over the message; its key is a name for people, the place where it was met first."""
    here = await process(backend)
    born_dead = landing("payments/3/41", state=State.DEAD, reason="decode: not JSON", keyed=False)
    born_dead = msgspec.structs.replace(born_dead, conflict_identity=born_dead.identity)
    again = msgspec.structs.replace(born_dead, key=b"payments/3/42")
    assert await here.store.arrivals.land([born_dead, again]) == [Landed.NEW, Landed.DUPLICATE]
    assert await here.store.arrivals.land([again]) == [Landed.DUPLICATE]
    assert [row.key for row in await here.store.operator.entries()] == [b"payments/3/41"]


@CHAPTER.case()
async def a_redriven_unkeyed_entry_comes_unkeyed(backend: Backend) -> None:
    """Whoever takes it must decode and key it anew."""
    here = await process(backend)
    born_dead = landing("payments/3/41", state=State.DEAD, reason="decode: not JSON", keyed=False)
    await here.store.arrivals.land([born_dead])
    token = (await here.entry(born_dead)).token
    assert await here.store.operator.redrive(born_dead.identity, token, "a new decoder")
    taken = only(await here.due())
    assert (taken.identity, taken.keyed, taken.message, taken.attempt) == (born_dead.identity, False, BODY, 1)


@CHAPTER.case()
async def a_delayed_landing_is_not_due_before(backend: Backend) -> None:
    """It is received at once, and due after its delay."""
    here = await process(backend)
    assert await here.store.arrivals.land([landing(delay=LATER)]) == [Landed.NEW]
    entry = await here.entry(landing())
    assert entry.due_at is not None
    assert abs(entry.due_at - entry.created_at - LATER) < LATER / 10
    assert await here.due() == []
    await backend.hasten()
    assert only(await here.due()).key == b"k-1"


@CHAPTER.case()
async def the_oldest_due_comes_first(backend: Backend) -> None:
    """By due time, not by creation; no more than the limit."""
    here = await process(backend)
    delays = {"c": 300.0, "a": 100.0, "e": 500.0, "b": 200.0, "d": 400.0}
    await here.store.arrivals.land([landing(key, delay=delay) for key, delay in delays.items()])
    await backend.hasten()
    assert [taken.key for taken in await here.due(limit=2)] == [b"a", b"b"]
    assert [taken.key for taken in await here.due(limit=2)] == [b"c", b"d"]
    assert [taken.key for taken in await here.due(limit=2)] == [b"e"]


@CHAPTER.case()
async def received_and_waiting_share_one_order(backend: Backend) -> None:
    """A retry that is due before a landing comes before it."""
    here = await process(backend)
    await here.ended(
        claim("retry"), (await here.win(claim("retry"))).token, Kind.RETRY, delay=100, message=BODY
    )
    await here.store.arrivals.land([landing("late", delay=200), landing("early", delay=50)])
    await backend.hasten()
    assert [taken.key for taken in await here.due()] == [b"early", b"retry", b"late"]


@CHAPTER.case()
async def due_yields_only_the_handlers_asked_for(backend: Backend) -> None:
    """Of this app: others wait for a process that has them."""
    here, other = await process(backend), await process(backend, app="other")
    await here.store.arrivals.land([landing("a"), landing("b", handler="ship"), landing("c", handler="mail")])
    await other.store.arrivals.land([landing("d", app="other")])
    assert await here.due(handlers=[]) == []
    assert sorted(taken.key for taken in await here.due(handlers=["ship", "mail"])) == [b"b", b"c"]
    assert [taken.key for taken in await other.due()] == [b"d"]
    assert [taken.key for taken in await here.due()] == [b"a"]


@CHAPTER.case()
async def due_yields_only_entries_with_bytes(backend: Backend) -> None:
    """A waiting entry without them waits for its redelivery."""
    here = await process(backend)
    await here.bring("bare", State.WAITING, message=None)
    await backend.hasten()
    assert await here.due() == []
    assert (await here.entry(claim("bare"))).state is State.WAITING


@CHAPTER.case()
async def due_is_a_claim(backend: Backend) -> None:
    """Running for this worker from that moment, with a new token and one attempt more; nobody gets it again."""
    here, there = await process(backend), await process(backend)
    first = await here.bring("k-1", State.WAITING)
    before = await here.entry(first)
    taken = only(await here.due())
    assert (taken.identity, taken.tenant, taken.handler, taken.key) == (
        first.identity,
        "public",
        HANDLER,
        b"k-1",
    )
    assert (taken.fingerprint, taken.message, taken.attempt, taken.keyed) == (
        first.fingerprint,
        BODY,
        2,
        True,
    )
    assert taken.token > before.token
    entry = await there.entry(first)
    assert (entry.state, entry.worker, entry.token, entry.attempts) == (
        State.RUNNING,
        here.worker,
        taken.token,
        2,
    )
    await backend.hasten()
    assert await there.due() == []
    assert await here.due() == []
    await here.ended(taken, taken.token, Kind.COMPLETE)


@CHAPTER.case()
async def due_leaves_all_other_states_alone(backend: Backend) -> None:
    """Running, done, in doubt and dead entries are not due, though they hold bytes."""
    here = await process(backend)
    for state in (State.RUNNING, State.DONE, State.IN_DOUBT, State.DEAD):
        await here.bring(state.word, state)
    before = await here.store.operator.entries()
    await backend.hasten()
    assert await here.due() == []
    after = await here.store.operator.entries()
    assert [(row.key, row.state, row.token) for row in after] == [
        (row.key, row.state, row.token) for row in before
    ]


@CHAPTER.case()
async def two_handles_never_take_the_same(backend: Backend) -> None:
    """Whoever asks at once shares what is due, and nothing of it is left over."""
    one, two = await process(backend), await process(backend)
    await one.store.arrivals.land([landing(f"k-{number}") for number in range(200)])
    taken: list[bytes] = []
    for _ in range(40):
        left, right = await asyncio.gather(one.due(limit=10), two.due(limit=10))
        taken += [entry.key for entry in (*left, *right)]
        if not left and not right:
            break
    assert len(taken) == len(set(taken)) == 200


@CHAPTER.case()
async def of_two_landings_at_once_one_is_new(backend: Backend) -> None:
    """On two handles, in opposite order."""
    one, two = await process(backend), await process(backend)
    batch = [landing(f"k-{number}") for number in range(50)]
    left, right = await asyncio.gather(one.store.arrivals.land(batch), two.store.arrivals.land(batch[::-1]))
    for first, second in zip(left, reversed(right), strict=True):
        assert {first, second} == {Landed.NEW, Landed.DUPLICATE}


@CHAPTER.case()
async def a_closed_worker_takes_nothing(backend: Backend) -> None:
    """What is due stays due: a closed worker's claims are refused."""
    here, gone = await process(backend), await process(backend)
    await here.store.arrivals.land([landing()])
    await gone.store.workers.close(gone.worker)
    try:
        taken = await gone.due()
    except StoreUnavailable:
        taken = []
    assert taken == []
    assert only(await here.due()).attempt == 1


@CHAPTER.case()
async def a_landing_brings_its_lapse_rule_and_budget(backend: Backend) -> None:
    """They travel in the row from the landing to the lapse."""
    gone, here = await process(backend), await process(backend)
    await here.store.arrivals.land(
        [
            landing("a", budget=1, on_lapse=OnLapse.WAITING),
            landing("b", budget=2, on_lapse=OnLapse.WAITING),
            landing("c"),
        ]
    )
    assert len(await gone.due()) == 3
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    adopted = {one.key: one.state for one in await here.store.workers.adopt(10)}
    assert adopted == {b"a": State.DEAD, b"b": State.WAITING, b"c": State.IN_DOUBT}


@CHAPTER.case()
async def five_hundred_land_at_once(backend: Backend) -> None:
    """Answered in their order, new ones and duplicates mixed; all due afterwards."""
    here = await process(backend)
    await here.store.arrivals.land([landing(f"k-{number}") for number in range(0, 500, 2)])
    landed = await here.store.arrivals.land([landing(f"k-{number}") for number in range(500)])
    assert landed == [Landed.DUPLICATE, Landed.NEW] * 250
    assert len(await here.due(limit=500)) == 500


@CHAPTER.case()
async def landed_keys_and_bytes_are_any_bytes(backend: Backend) -> None:
    """NUL and bytes that are not UTF-8 come back as they were; empty batches are no-ops."""
    here = await process(backend)
    assert await here.store.arrivals.land([]) == []
    keys = [b"\x00", b"a\x00b", b"\xff\xfe", b"\x80" * 255]
    await here.store.arrivals.land([landing(key, message=b"\x00\xff" + key) for key in keys])
    assert {taken.key: taken.message for taken in await here.due()} == {
        key: b"\x00\xff" + key for key in keys
    }
