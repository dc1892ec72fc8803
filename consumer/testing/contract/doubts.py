"""`Doubts`: asking about them, and ending them."""

from __future__ import annotations

import asyncio

import msgspec

from consumer.entry import Held, Kind, State, Won
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    claim,
    end,
    landing,
    only,
    outgoing,
    process,
    resolution,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("doubts")


@CHAPTER.case()
async def asking_leaves_token_and_state(backend: Backend) -> None:
    """A reconcile's own claim is a lease, not an attempt."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    before = await here.entry(wish)
    asked = only(await here.doubts())
    assert (asked.identity, asked.tenant, asked.handler, asked.key) == (
        wish.identity,
        "public",
        HANDLER,
        b"k-1",
    )
    assert (asked.fingerprint, asked.message, asked.keyed) == (wish.fingerprint, BODY, True)
    assert (asked.token, asked.attempt) == (before.token, 1)
    after = await here.entry(wish)
    assert (after.state, after.token, after.attempts) == (State.IN_DOUBT, before.token, 1)


@CHAPTER.case()
async def a_doubt_is_asked_about_once_a_lease(backend: Backend) -> None:
    """Nobody else asks meanwhile; after the lease it is due again."""
    here, there = await process(backend), await process(backend)
    await here.bring("k-1", State.IN_DOUBT)
    assert len(await here.doubts(lease=LATER)) == 1
    assert await there.doubts() == []
    assert await here.doubts() == []
    await backend.hasten()
    assert len(await there.doubts()) == 1


@CHAPTER.case()
async def a_doubt_is_asked_about_so_many_times(backend: Backend) -> None:
    """Bounded by `tries`; a new doubt of the same entry is asked about anew."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    for _ in range(2):
        assert len(await here.doubts(tries=2)) == 1
        await backend.hasten()
    assert await here.doubts(tries=2) == []
    token = (await here.entry(wish)).token
    assert await here.store.doubts.resolve(resolution(wish, token, State.WAITING))
    taken = only(await here.due())
    await here.ended(taken, taken.token, Kind.DOUBT, delay=0.0)
    assert len(await here.doubts(tries=2)) == 1


@CHAPTER.case()
async def two_handles_never_ask_about_the_same(backend: Backend) -> None:
    """Whoever asks at once shares the doubts."""
    one, two = await process(backend), await process(backend)
    for number in range(30):
        await one.bring(f"k-{number}", State.IN_DOUBT)
    keys: list[bytes] = []
    for _ in range(20):
        left, right = await asyncio.gather(one.doubts(limit=5), two.doubts(limit=5))
        assert len(left) <= 5
        assert len(right) <= 5
        keys += [asked.key for asked in (*left, *right)]
        if not left and not right:
            break
    assert len(keys) == len(set(keys)) == 30


@CHAPTER.case()
async def only_due_doubts_with_bytes_are_asked_about(backend: Backend) -> None:
    """Of the handlers asked for and of this app; what never becomes due is left to people."""
    here, other = await process(backend), await process(backend, app="other")
    bare = await here.bring("bare", State.IN_DOUBT, message=None)
    for key, delay in (("never", None), ("later", LATER)):
        win = await here.win(claim(key))
        await here.ended(claim(key), win.token, Kind.DOUBT, delay=delay, message=BODY)
    ship = claim("ship", handler="ship")
    await here.ended(ship, (await here.win(ship)).token, Kind.DOUBT, delay=0.0, message=BODY)
    theirs = claim("theirs", app="other")
    await other.ended(theirs, (await other.win(theirs)).token, Kind.DOUBT, delay=0.0, message=BODY)
    await here.bring("dead", State.DEAD)
    assert await here.doubts() == []
    await here.ended(bare, 0, Kind.ATTACH, message=BODY)
    assert only(await here.doubts()).key == b"bare"
    await backend.hasten()
    assert sorted(asked.key for asked in await here.doubts()) == [b"bare", b"later"]


@CHAPTER.case()
async def resolved_to_done(backend: Backend) -> None:
    """Result, messages and landings in one commit; bytes cleared, token raised, story with the reason."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    token = (await here.entry(wish)).token
    done = msgspec.structs.replace(
        resolution(wish, token, State.DONE, reason="found at the provider"),
        result=b"receipt",
        outgoing=(outgoing("settled"),),
        landings=(landing("next"),),
    )
    assert await here.store.doubts.resolve(done)
    entry = await here.entry(wish)
    assert (entry.state, entry.result, entry.message, entry.due_at) == (State.DONE, b"receipt", None, None)
    assert entry.token > token
    assert (entry.story[-1].event, entry.story[-1].reason) == ("resolve", "found at the provider")
    assert await here.sent_out() == ["settled"]
    assert only(await here.due()).key == b"next"


@CHAPTER.case()
async def resolved_to_waiting_permits_one_new_start(backend: Backend) -> None:
    """Due now, with a new token; the attempt count goes on."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    token = (await here.entry(wish)).token
    assert await here.store.doubts.resolve(resolution(wish, token, State.WAITING))
    entry = await here.entry(wish)
    assert (entry.state, entry.attempts, entry.message) == (State.WAITING, 1, BODY)
    assert entry.token > token
    assert [line.event for line in entry.story] == ["doubt", "resolve"]
    taken = only(await here.due())
    assert taken.attempt == 2
    assert taken.token > entry.token
    assert await here.due() == []


@CHAPTER.case()
async def the_permission_waits_for_missing_bytes(backend: Backend) -> None:
    """`due` does not yield the entry; the redelivery that brings the bytes claims it, once."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT, message=None)
    token = (await here.entry(wish)).token
    assert await here.store.doubts.resolve(resolution(wish, token, State.WAITING))
    await backend.hasten()
    assert await here.due() == []
    assert (await here.entry(wish)).state is State.WAITING
    win = await here.win(claim(message=BODY))
    assert win.attempt == 2
    assert win.token > token
    assert isinstance(await here.ask(claim()), Held)


@CHAPTER.case()
async def the_permission_is_used_when_bytes_are_landed(backend: Backend) -> None:
    """A landing or an attach brings them: then it is due."""
    here = await process(backend)
    for key in ("landed", "attached"):
        wish = await here.bring(key, State.IN_DOUBT, message=None)
        token = (await here.entry(wish)).token
        assert await here.store.doubts.resolve(resolution(wish, token, State.WAITING))
    await here.store.arrivals.land([landing("landed")])
    assert only(await here.due()).key == b"landed"
    await here.ended(claim("attached"), 0, Kind.ATTACH, message=BODY)
    assert only(await here.due()).key == b"attached"


@CHAPTER.case()
async def the_resolved_attempts_claim_wins_nothing(backend: Backend) -> None:
    """The nonce is cleared: the old claim asked again is not the old win."""
    here = await process(backend)
    for key, message in (("stored", BODY), ("bare", None)):
        wish = claim(key)
        old = await here.win(wish)
        await here.ended(wish, old.token, Kind.DOUBT, message=message)
        assert await here.store.doubts.resolve(resolution(wish, old.token, State.WAITING))
        answer = await here.ask(wish)
        if message is None:
            assert isinstance(answer, Won)
            assert answer.token > old.token
            assert answer.attempt == 2
        else:
            assert isinstance(answer, Held)
            assert answer.state is State.WAITING


@CHAPTER.case()
async def resolved_to_dead(backend: Backend) -> None:
    """A dead letter with the reason given and its bytes; it may be redriven."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    token = (await here.entry(wish)).token
    assert await here.store.operator.resolve(resolution(wish, token, State.DEAD, reason="refunded by hand"))
    entry = await here.entry(wish)
    assert (entry.state, entry.reason, entry.message, entry.due_at) == (
        State.DEAD,
        "refunded by hand",
        BODY,
        None,
    )
    assert entry.token > token
    assert await here.store.operator.redrive(wish.identity, entry.token, "charge again")


@CHAPTER.case()
async def a_resolution_compares_the_token(backend: Backend) -> None:
    """`False` with another token, and nothing has changed, been sent or landed."""
    here = await process(backend)
    wish = await here.bring("k-1", State.IN_DOUBT)
    before = await here.entry(wish)
    for token in (before.token - 1, before.token + 1, 0):
        wrong = msgspec.structs.replace(
            resolution(wish, token, State.DONE), outgoing=(outgoing("no"),), landings=(landing("no"),)
        )
        assert not await here.store.doubts.resolve(wrong)
        assert not await here.store.operator.resolve(wrong)
    assert await here.entry(wish) == before
    assert await here.sent_out() == []
    assert await here.seen(landing("no")) is None


@CHAPTER.case()
async def of_two_resolutions_one_counts(backend: Backend) -> None:
    """A person and reconcile at once: exactly one ends the doubt."""
    one, two = await process(backend), await process(backend)
    for number in range(10):
        wish = await one.bring(f"k-{number}", State.IN_DOUBT)
        token = (await one.entry(wish)).token
        said = await asyncio.gather(
            one.store.operator.resolve(resolution(wish, token, State.DEAD)),
            two.store.doubts.resolve(resolution(wish, token, State.WAITING)),
        )
        assert sorted(said) == [False, True]
        assert (await one.entry(wish)).state is (State.DEAD if said[0] else State.WAITING)


@CHAPTER.case()
async def a_resolution_and_a_late_completion_do_not_both_count(backend: Backend) -> None:
    """At once: either the completion was in time, or it is refused and suspected."""
    one, two = await process(backend), await process(backend)
    for number in range(10):
        wish = await one.bring(f"k-{number}", State.IN_DOUBT)
        token = (await one.entry(wish)).token
        resolved, settled = await asyncio.gather(
            one.store.operator.resolve(resolution(wish, token, State.WAITING)),
            two.settle(end(wish, token, Kind.COMPLETE)),
        )
        entry = await one.entry(wish)
        assert resolved != (settled.value == "ok"), (resolved, settled)
        assert entry.state is (State.WAITING if resolved else State.DONE)
        assert (entry.story[-1].event == "second_effect_suspected") == resolved
