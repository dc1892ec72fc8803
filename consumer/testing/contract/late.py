"""Settlements that come after a lapse, a resolution or another start."""

from __future__ import annotations

from consumer.entry import Kind, OnLapse, Settled, State
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    claim,
    end,
    landing,
    only,
    outgoing,
    process,
    resolution,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("late")

_KINDS = (Kind.COMPLETE, Kind.RETRY, Kind.DOUBT, Kind.BURY, Kind.RELEASE)


@CHAPTER.case()
async def a_settle_that_finds_its_state_brings_the_bytes(backend: Backend) -> None:
    """A lapse came first. The answer permits the acknowledgement, so the entry must hold the bytes from now on."""
    gone, here = await process(backend), await process(backend)
    doubt, retry = claim("doubt"), claim("retry", on_lapse=OnLapse.WAITING)
    bury = claim("bury", on_lapse=OnLapse.WAITING, budget=1)
    tokens = [(await gone.win(wish)).token for wish in (doubt, retry, bury)]
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    assert len(await here.store.workers.adopt(10)) == 3
    for wish, token, kind in zip(
        (doubt, retry, bury), tokens, (Kind.DOUBT, Kind.RETRY, Kind.BURY), strict=True
    ):
        assert await gone.settle(end(wish, token, kind, reason="late", message=BODY)) is Settled.OK, kind
        assert (await here.entry(wish)).message == BODY, kind


@CHAPTER.case()
async def a_fenced_holder_cannot_end_what_another_started(backend: Backend) -> None:
    """After a lapse to waiting and a second start the first token is lost, the second settles."""
    gone, here = await process(backend), await process(backend)
    wish = claim(on_lapse=OnLapse.WAITING)
    old = await gone.win(wish)
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    await here.store.workers.adopt(10)
    new = await here.win(claim(on_lapse=OnLapse.WAITING))
    assert new.token > old.token
    assert await gone.settle(end(wish, old.token, Kind.COMPLETE, result=b"old")) is Settled.LOST
    await here.ended(wish, new.token, Kind.COMPLETE, result=b"new")
    assert (await here.entry(wish)).result == b"new"


@CHAPTER.case()
async def late_settlements_by_the_same_token_count(backend: Backend) -> None:
    """After a lapse to in doubt complete, retry and bury are the only knowledge of the outcome. Story line `late`."""
    aims = ((Kind.COMPLETE, 5, State.DONE), (Kind.RETRY, 5, State.WAITING), (Kind.RETRY, 1, State.DEAD))
    here = await process(backend)
    for kind, budget, aim in (*aims, (Kind.BURY, 5, State.DEAD)):
        gone = await process(backend)
        wish = claim(f"{kind.name}-{budget}", budget=budget)
        win = await gone.win(wish)
        await backend.kill(gone.store, gone.worker)
        await here.store.workers.lapse()
        assert len(await here.store.workers.adopt(10)) == 1
        settle = end(
            wish,
            win.token,
            kind,
            reason="said late",
            result=b"r",
            message=None if aim is State.DONE else BODY,
        )
        assert await gone.settle(settle) is Settled.OK, kind
        entry = await here.entry(wish)
        assert (entry.state, entry.attempts) == (aim, 1)
        assert entry.result == (b"r" if aim is State.DONE else None)
        assert entry.message == (None if aim is State.DONE else BODY)
        events = [line.event for line in entry.story]
        assert events[0] == "lapse"
        assert "late" in events


@CHAPTER.case()
async def a_late_complete_sends_and_lands(backend: Backend) -> None:
    """What the attempt wanted to tell the world leaves with its late completion."""
    here = await process(backend)
    await here.bring("k-1", State.IN_DOUBT)
    token = (await here.entry(claim())).token
    settle = end(claim(), token, Kind.COMPLETE, outgoing=[outgoing("late")], landings=[landing("late")])
    assert await here.settle(settle) is Settled.OK
    assert await here.sent_out() == ["late"]
    assert only(await here.due()).key == b"late"


@CHAPTER.case()
async def a_resolution_refuses_late_settlements(backend: Backend) -> None:
    """The token was raised; a completion that comes after it is audited as a suspected second effect."""
    here = await process(backend)
    for to in (State.DONE, State.WAITING, State.DEAD):
        wish = claim(to.word)
        win = await here.win(wish)
        await here.ended(wish, win.token, Kind.DOUBT, message=BODY)
        assert await here.store.operator.resolve(resolution(wish, win.token, to))
        before = await here.entry(wish)
        assert before.token > win.token
        for kind in (Kind.RETRY, Kind.BURY):
            assert await here.settle(end(wish, win.token, kind)) is Settled.LOST
        assert await here.entry(wish) == before
        late = end(wish, win.token, Kind.COMPLETE, result=b"late", outgoing=[outgoing("late")])
        assert await here.settle(late) is Settled.LOST
        after = await here.entry(wish)
        assert (after.state, after.token, after.result) == (before.state, before.token, before.result)
        assert after.story[-1].event == "second_effect_suspected"
        assert len(after.story) == len(before.story) + 1
    assert await here.sent_out() == []


@CHAPTER.case()
async def a_second_effect_is_suspected_after_the_new_start_too(backend: Backend) -> None:
    """The permitted new start runs, or is done, when the first attempt reports success after all."""
    here = await process(backend)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.DOUBT, message=BODY)
    assert await here.store.operator.resolve(resolution(claim(), win.token, State.WAITING))
    taken = only(await here.due())
    assert await here.settle(end(claim(), win.token, Kind.COMPLETE)) is Settled.LOST
    entry = await here.entry(claim())
    assert (entry.state, entry.token) == (State.RUNNING, taken.token)
    assert entry.story[-1].event == "second_effect_suspected"
    await here.ended(taken, taken.token, Kind.COMPLETE)


@CHAPTER.case()
async def a_second_effect_is_suspected_whatever_the_lapse_rule_is_now(backend: Backend) -> None:
    """The permitted new start may be of a later deployment, whose mode is another: that changes nothing of the past."""
    here = await process(backend)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.DOUBT)
    assert await here.store.operator.resolve(resolution(claim(), win.token, State.WAITING))
    again = await here.win(claim(on_lapse=OnLapse.WAITING))
    assert await here.settle(end(claim(), win.token, Kind.COMPLETE)) is Settled.LOST
    entry = await here.entry(claim())
    assert (entry.state, entry.token) == (State.RUNNING, again.token)
    assert entry.story[-1].event == "second_effect_suspected"


@CHAPTER.case()
async def other_lost_completions_raise_no_suspicion(backend: Backend) -> None:
    """A completion by a token that no resolution ended leaves the story alone."""
    here = await process(backend)
    retried = await here.win(claim("retried"))
    await here.ended(claim("retried"), retried.token, Kind.RETRY)
    buried = await here.win(claim("buried"))
    await here.ended(claim("buried"), buried.token, Kind.BURY)
    assert await here.store.operator.redrive(claim("buried").identity, buried.token, "mended")
    for key, token in (("retried", retried.token), ("buried", buried.token)):
        assert await here.settle(end(claim(key), token, Kind.COMPLETE)) is Settled.LOST
        assert "second_effect_suspected" not in [line.event for line in (await here.entry(claim(key))).story]
