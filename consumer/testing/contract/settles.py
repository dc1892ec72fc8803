"""`Inbox.turn`'s settles, kind by kind."""

from __future__ import annotations

from consumer.entry import Kind, Landed, Settled, State
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    LATER,
    body,
    claim,
    end,
    landing,
    only,
    outgoing,
    process,
    resolution,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("settles")

_KINDS = (Kind.COMPLETE, Kind.RETRY, Kind.DOUBT, Kind.BURY, Kind.RELEASE)


@CHAPTER.case()
async def complete_keeps_the_result_and_clears_the_rest(backend: Backend) -> None:
    """Due time, worker and message go; nothing reads the bytes of a done entry. A completion has no story."""
    here = await process(backend)
    win = await here.win(claim(message=BODY))
    await here.ended(claim(), win.token, Kind.COMPLETE, result=b"receipt")
    entry = await here.entry(claim())
    assert (entry.state, entry.result, entry.token, entry.attempts) == (State.DONE, b"receipt", win.token, 1)
    assert (entry.due_at, entry.worker, entry.message, entry.reason) == (None, None, None, None)
    assert entry.story == ()


@CHAPTER.case()
async def complete_clears_what_an_earlier_retry_left(backend: Backend) -> None:
    """The reason and the bytes of the attempt before are gone; its story stays."""
    here = await process(backend)
    await here.bring("k-1", State.WAITING)
    taken = only(await here.due())
    await here.ended(taken, taken.token, Kind.COMPLETE)
    entry = await here.entry(taken)
    assert (entry.state, entry.reason, entry.message, entry.due_at) == (State.DONE, None, None, None)
    assert [line.event for line in entry.story] == ["retry"]


@CHAPTER.case()
async def complete_sends_its_outgoing_messages(backend: Backend) -> None:
    """In their order, with ids, headers (repeated names, any bytes) and ordering keys as given."""
    here = await process(backend)
    win = await here.win(claim())
    messages = [outgoing("one"), outgoing("two", None), outgoing("three", "acc-2", topic="elsewhere")]
    await here.ended(claim(), win.token, Kind.COMPLETE, outgoing=messages)
    rows = await here.store.operator.outgoing()
    assert [row.outgoing for row in rows] == messages
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    assert {row.parked for row in rows} == {None}


@CHAPTER.case()
async def complete_lands_what_goes_to_embedded_topics(backend: Backend) -> None:
    """As `land` does: a new one, a duplicate, and a conflict that is born dead."""
    here = await process(backend)
    await here.store.arrivals.land([landing("taken"), landing("same")])
    win = await here.win(claim())
    conflict = landing("taken", payload=b"other", message=body(b"other"))
    await here.ended(claim(), win.token, Kind.COMPLETE, landings=[landing("new"), landing("same"), conflict])
    assert {taken.key for taken in await here.due()} == {b"taken", b"same", b"new"}
    born_dead = only(await here.store.operator.entries(states=[State.DEAD]))
    assert (born_dead.identity, born_dead.message) == (conflict.conflict_identity, conflict.message)


@CHAPTER.case()
async def a_lost_complete_sends_and_lands_nothing(backend: Backend) -> None:
    """Outgoing messages and landings share the settle's fate."""
    here = await process(backend)
    win = await here.win(claim())
    for wish, token in ((claim(), win.token + 1), (claim("none"), win.token)):
        for sent, landed in (
            ([outgoing("no")], [landing("no")]),
            ([outgoing("no")], []),
            ([], [landing("no")]),
        ):
            lost = end(wish, token, Kind.COMPLETE, outgoing=sent, landings=landed)
            assert await here.settle(lost) is Settled.LOST
    assert await here.sent_out() == []
    assert await here.seen(landing("no")) is None


@CHAPTER.case()
async def a_lost_settle_beside_a_good_one_sends_nothing(backend: Backend) -> None:
    """In one batch the good one's messages leave, the lost one's do not."""
    here = await process(backend)
    good, lost = await here.win(claim("good")), await here.win(claim("lost"))
    settled, _ = await here.store.inbox.turn(
        here.worker,
        [
            end(
                claim("lost"),
                lost.token - 1,
                Kind.COMPLETE,
                outgoing=[outgoing("no")],
                landings=[landing("no")],
            ),
            end(
                claim("good"),
                good.token,
                Kind.COMPLETE,
                outgoing=[outgoing("yes")],
                landings=[landing("yes")],
            ),
        ],
        [],
    )
    assert settled == [Settled.LOST, Settled.OK]
    assert await here.sent_out() == ["yes"]
    assert [taken.key for taken in await here.due()] == [b"yes"]


@CHAPTER.case()
async def a_repeated_complete_is_ok_and_does_nothing_again(backend: Backend) -> None:
    """A lost reply: the messages leave once, and the first result stays."""
    here = await process(backend)
    win = await here.win(claim())
    settle = end(
        claim(), win.token, Kind.COMPLETE, result=b"r", outgoing=[outgoing("o")], landings=[landing("l")]
    )
    assert await here.settle(settle) is Settled.OK
    taken = only(await here.due())
    before = await here.entry(claim())
    assert await here.settle(settle) is Settled.OK
    assert await here.entry(claim()) == before
    assert await here.sent_out() == ["o"]
    assert (await here.entry(taken)).attempts == 1


@CHAPTER.case()
async def a_repeated_retry_doubt_or_bury_is_ok_and_changes_nothing(backend: Backend) -> None:
    """It finds its own state and token; the story gets no second line."""
    here = await process(backend)
    for kind, budget in ((Kind.RETRY, 5), (Kind.RETRY, 1), (Kind.DOUBT, 5), (Kind.BURY, 5)):
        wish = claim(f"{kind.name}-{budget}", budget=budget)
        win = await here.win(wish)
        settle = end(wish, win.token, kind, reason="why", delay=LATER, message=BODY)
        assert await here.settle(settle) is Settled.OK
        before = await here.entry(wish)
        assert await here.settle(settle) is Settled.OK
        assert await here.entry(wish) == before


@CHAPTER.case()
async def a_wrong_token_is_lost_whatever_the_kind(backend: Backend) -> None:
    """Older, never given out, or another key's: nothing is changed."""
    here = await process(backend)
    other = await here.win(claim("other"))
    old = await here.win(claim())
    await here.ended(claim(), old.token, Kind.RETRY)
    new = await here.win(claim())
    before = await here.entry(claim())
    for token in (old.token, other.token, new.token + 1000, 0):
        for kind in _KINDS:
            settle = end(
                claim(), token, kind, reason="wrong", delay=0.0, result=b"wrong", message=body(b"wrong")
            )
            assert await here.settle(settle) is Settled.LOST, (kind, token)
    assert await here.entry(claim()) == before


@CHAPTER.case()
async def retry_waits_for_its_delay(backend: Backend) -> None:
    """Waiting, with reason, bytes and a story line; due after the delay and not before."""
    here = await process(backend)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.RETRY, reason="busy", delay=LATER, message=BODY)
    entry = await here.entry(claim())
    assert (entry.state, entry.reason, entry.worker, entry.message) == (State.WAITING, "busy", None, BODY)
    assert entry.due_at is not None
    assert abs(entry.due_at - entry.created_at - LATER) < LATER / 10
    line = only(entry.story)
    assert (line.event, line.token, line.attempt, line.reason) == ("retry", win.token, 1, "busy")
    assert abs(line.at - entry.created_at) < LATER / 10
    assert await here.due() == []
    await backend.hasten()
    assert only(await here.due()).attempt == 2


@CHAPTER.case()
async def a_spent_budget_buries_the_retry(backend: Backend) -> None:
    """Dead with the same reason after `budget` attempts, never due again; the story says so."""
    here = await process(backend)
    for attempt in (1, 2, 3):
        win = await here.win(claim(budget=3, stored=True))
        assert win.attempt == attempt
        await here.ended(claim(), win.token, Kind.RETRY, reason=f"busy {attempt}", delay=0.0, message=BODY)
    entry = await here.entry(claim())
    assert (entry.state, entry.attempts, entry.reason, entry.due_at) == (State.DEAD, 3, "busy 3", None)
    assert entry.message == BODY
    assert [line.event for line in entry.story] == ["retry", "retry", "bury"]
    await backend.hasten()
    assert await here.due() == []


@CHAPTER.case()
async def doubt_tells_why(backend: Backend) -> None:
    """In doubt, with reason, bytes and a story line; due after the delay, or never."""
    here = await process(backend)
    for key, delay in (("asked", LATER), ("never", None)):
        win = await here.win(claim(key))
        await here.ended(claim(key), win.token, Kind.DOUBT, reason="no reply", delay=delay, message=BODY)
        entry = await here.entry(claim(key))
        assert (entry.state, entry.reason, entry.worker, entry.message) == (
            State.IN_DOUBT,
            "no reply",
            None,
            BODY,
        )
        assert (entry.due_at is None) == (delay is None)
        assert [(line.event, line.token, line.reason) for line in entry.story] == [
            ("doubt", win.token, "no reply")
        ]
    assert await here.doubts() == []
    await backend.hasten()
    assert only(await here.doubts()).key == b"asked"


@CHAPTER.case()
async def bury_tells_why(backend: Backend) -> None:
    """Dead, with reason, bytes and a story line; never due."""
    here = await process(backend)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.BURY, reason="refused", message=BODY)
    entry = await here.entry(claim())
    assert (entry.state, entry.reason, entry.worker, entry.message) == (State.DEAD, "refused", None, BODY)
    assert (entry.due_at, entry.attempts) == (None, 1)
    assert [(line.event, line.token, line.reason) for line in entry.story] == [("bury", win.token, "refused")]


@CHAPTER.case()
async def release_to_no_row(backend: Backend) -> None:
    """What was absent before the claim is absent again, and starts with attempt 1."""
    here = await process(backend)
    last = 0
    for message in (None, BODY, None):
        win = await here.win(claim(message=message))
        assert win.attempt == 1
        assert win.token > last
        last = win.token
        await here.ended(claim(), win.token, Kind.RELEASE)
        assert await here.seen(claim()) is None
        assert await here.settle(end(claim(), win.token, Kind.COMPLETE)) is Settled.LOST


@CHAPTER.case()
async def release_to_received(backend: Backend) -> None:
    """Due now, with its bytes; the attempt is not counted."""
    here = await process(backend)
    await here.store.arrivals.land([landing()])
    taken = only(await here.due())
    assert taken.attempt == 1
    await here.ended(taken, taken.token, Kind.RELEASE)
    entry = await here.entry(taken)
    assert (entry.state, entry.attempts, entry.worker, entry.message) == (State.RECEIVED, 0, None, BODY)
    again = only(await here.due())
    assert (again.attempt, again.message) == (1, BODY)
    assert again.token > taken.token


@CHAPTER.case()
async def release_to_waiting(backend: Backend) -> None:
    """Due now, with its bytes; the attempt is not counted, the budget is not spent."""
    here = await process(backend)
    wish = claim(budget=2, message=BODY)
    await here.ended(wish, (await here.win(wish)).token, Kind.RETRY, reason="busy")
    for _ in range(3):
        taken = only(await here.due())
        assert taken.attempt == 2
        await here.ended(taken, taken.token, Kind.RELEASE)
        entry = await here.entry(taken)
        assert (entry.state, entry.attempts, entry.worker, entry.message) == (State.WAITING, 1, None, BODY)


@CHAPTER.case()
async def release_of_a_redelivery(backend: Backend) -> None:
    """A waiting entry without bytes goes back to waiting without bytes, and the redelivery wins it again."""
    here = await process(backend)
    await here.bring("k-1", State.WAITING, message=None)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.RELEASE)
    entry = await here.entry(claim())
    assert (entry.state, entry.attempts, entry.message) == (State.WAITING, 1, None)
    assert (await here.win(claim())).attempt == 2


@CHAPTER.case()
async def attach_brings_missing_bytes_once(backend: Backend) -> None:
    """To an entry that is waiting, in doubt or dead, whatever the token; bytes that are there stay."""
    here = await process(backend)
    for state in (State.WAITING, State.IN_DOUBT, State.DEAD):
        wish = await here.bring(state.word, state, message=None)
        before = await here.entry(wish)
        assert before.message is None
        assert await here.settle(end(wish, 0, Kind.ATTACH, message=BODY)) is Settled.OK
        after = await here.entry(wish)
        assert after.message == BODY
        assert (after.state, after.token, after.attempts, after.reason, after.due_at, after.story) == (
            before.state,
            before.token,
            before.attempts,
            before.reason,
            before.due_at,
            before.story,
        )
        assert await here.settle(end(wish, 0, Kind.ATTACH, message=body(b"other"))) is Settled.OK
        assert (await here.entry(wish)).message == BODY
    assert only(await here.due()).message == BODY
    assert only(await here.doubts()).message == BODY


@CHAPTER.case()
async def attach_is_lost_elsewhere(backend: Backend) -> None:
    """On an entry that is absent, received, running or done it changes nothing."""
    here = await process(backend)
    for state in (State.ABSENT, State.RECEIVED, State.RUNNING, State.DONE):
        wish = await here.bring(state.word, state, message=None)
        before = await here.seen(wish)
        token = 0 if before is None else before.token
        assert await here.settle(end(wish, token, Kind.ATTACH, message=body(b"other"))) is Settled.LOST, state
        assert await here.seen(wish) == before


@CHAPTER.case()
async def bytes_are_never_lost_before_done(backend: Backend) -> None:
    """Through retry, release, doubt, resolution, burial and redrive without a message given."""
    here = await process(backend)
    await here.store.arrivals.land([landing()])
    for kind in (Kind.RETRY, Kind.RELEASE, Kind.DOUBT, Kind.BURY):
        taken = only(await here.due())
        assert taken.message == BODY
        await here.ended(taken, taken.token, kind)
        entry = await here.entry(taken)
        assert entry.message == BODY, kind
        if kind is Kind.DOUBT:
            await here.store.operator.resolve(resolution(taken, taken.token, State.WAITING))
        elif kind is Kind.BURY:
            assert await here.store.operator.redrive(taken.identity, taken.token, "mended")
    assert only(await here.due()).message == BODY


@CHAPTER.case()
async def settles_come_before_claims(backend: Backend) -> None:
    """A key that is settled and claimed by one call is settled first."""
    here = await process(backend)
    done, retried = await here.win(claim("done")), await here.win(claim("retried"))
    settled, answers = await here.store.inbox.turn(
        here.worker,
        [
            end(claim("done"), done.token, Kind.COMPLETE, result=b"r"),
            end(claim("retried"), retried.token, Kind.RETRY, delay=LATER, message=BODY),
        ],
        [claim("done"), claim("retried")],
    )
    assert settled == [Settled.OK, Settled.OK]
    assert [getattr(answer, "state", None) for answer in answers] == [State.DONE, State.WAITING]
    assert await here.store.inbox.look([claim("done")]) == answers[:1]


@CHAPTER.case()
async def a_large_batch_of_all_kinds(backend: Backend) -> None:
    """Five hundred settles of every kind, some of them lost, answered in their order."""
    here = await process(backend)
    wishes = [claim(f"k-{number}") for number in range(500)]
    await here.store.inbox.turn(here.worker, [], wishes)
    tokens = {row.identity: row.token for row in await here.store.operator.entries()}
    lost = {number for number in range(500) if number % 7 == 3}
    settles = [
        end(wish, tokens[wish.identity] + (10_000 if number in lost else 0), _KINDS[number % 5], message=BODY)
        for number, wish in enumerate(wishes)
    ]
    settled, _ = await here.store.inbox.turn(here.worker, settles, [])
    assert [number for number, one in enumerate(settled) if one is Settled.LOST] == sorted(lost)
    aims = (State.DONE, State.WAITING, State.IN_DOUBT, State.DEAD, State.ABSENT)
    states = {row.identity: row.state for row in await here.store.operator.entries()}
    for number, wish in enumerate(wishes):
        wanted = State.RUNNING if number in lost else aims[number % 5]
        assert states.get(wish.identity, State.ABSENT) is wanted, number


@CHAPTER.case()
async def results_and_messages_are_any_bytes(backend: Backend) -> None:
    """NUL, bytes that are not UTF-8, and a megabyte come back as they were."""
    here = await process(backend)
    for number, value in enumerate((b"\x00", b"\xff\x00\xfe", bytes(range(256)), b"\x00" * 2**20)):
        wish = claim(f"k-{number}")
        await here.ended(wish, (await here.win(wish)).token, Kind.RETRY, message=value)
        taken = only(await here.due())
        assert taken.message == value
        await here.ended(taken, taken.token, Kind.COMPLETE, result=value)
        assert (await here.entry(wish)).result == value


@CHAPTER.case()
async def reasons_are_any_text(backend: Backend) -> None:
    """Also text that a column of text might not like."""
    here = await process(backend)
    for number, reason in enumerate(("", "'; drop table entries --", "день \U0001f600", "line\nline\ttab")):
        wish = claim(f"k-{number}")
        await here.ended(wish, (await here.win(wish)).token, Kind.BURY, reason=reason)
        assert (await here.entry(wish)).reason == reason


@CHAPTER.case()
async def a_landing_of_a_settle_may_be_repeated_by_a_broker(backend: Backend) -> None:
    """The entry that a completion landed is the one that a later landing finds."""
    here = await process(backend)
    win = await here.win(claim())
    await here.ended(claim(), win.token, Kind.COMPLETE, landings=[landing("next")])
    assert await here.store.arrivals.land([landing("next")]) == [Landed.DUPLICATE]
    assert only(await here.due()).key == b"next"


@CHAPTER.case()
async def no_reason_stops_a_batch(backend: Backend) -> None:
    """An exception's text may hold what a column of text refuses: it is kept as well as it can be."""
    here = await process(backend)
    for number, reason in enumerate(("left\x00right", "left\ud800right")):
        dead, done = claim(f"dead-{number}"), claim(f"done-{number}")
        tokens = [(await here.win(wish)).token for wish in (dead, done)]
        settles = [end(dead, tokens[0], Kind.BURY, reason=reason), end(done, tokens[1], Kind.COMPLETE)]
        settled, _ = await here.store.inbox.turn(here.worker, settles, [])
        assert settled == [Settled.OK, Settled.OK]
        kept = (await here.entry(dead)).reason or ""
        assert kept.startswith("left")
        assert kept.endswith("right")
        assert (await here.entry(done)).state is State.DONE


@CHAPTER.case()
async def no_delay_stops_a_batch(backend: Backend) -> None:
    """A time beyond all calendars is far away, not a fault: whoever asked for it shares the batch with others."""
    here = await process(backend)
    for number, delay in enumerate((1e12, 1e18, 1e300)):
        late, done = claim(f"late-{number}"), claim(f"done-{number}")
        tokens = [(await here.win(wish)).token for wish in (late, done)]
        settles = [
            end(late, tokens[0], Kind.RETRY, delay=delay, message=BODY),
            end(
                done,
                tokens[1],
                Kind.COMPLETE,
                outgoing=[outgoing(f"o-{number}", None, delay=delay)],
                landings=[landing(f"l-{number}", delay=delay)],
            ),
        ]
        settled, _ = await here.store.inbox.turn(here.worker, settles, [])
        assert settled == [Settled.OK, Settled.OK]
        assert (await here.entry(late)).state is State.WAITING
        assert (await here.entry(landing(f"l-{number}"))).state is State.RECEIVED
    assert await here.due() == []
    assert await here.store.outbox.take(here.worker, 10) == []
    assert await here.sent_out() == ["o-0", "o-1", "o-2"]
