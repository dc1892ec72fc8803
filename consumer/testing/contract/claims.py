"""`Inbox.turn`'s claims, and `Inbox.look`."""

from __future__ import annotations

import asyncio

import msgspec

from consumer.entry import Claim, Conflicting, Held, Kind, OnLapse, State, Won
from consumer.errors import StoreUnavailable
from consumer.rules.keys import fingerprint_of_bytes
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    body,
    claim,
    end,
    landing,
    only,
    process,
    won,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("claims")

_STATES = tuple(state for state in State if state is not State.ABSENT)


@CHAPTER.case()
async def an_absent_key_is_won(backend: Backend) -> None:
    """A new row: running, attempt 1, belonging to the worker."""
    here = await process(backend)
    wish = claim("k-1", tenant="acme")
    win = await here.win(wish)
    entry = await here.entry(wish)
    assert win.attempt == 1
    assert win.token > 0
    assert (entry.app, entry.tenant, entry.handler, entry.key) == ("shop", "acme", HANDLER, b"k-1")
    assert (entry.state, entry.attempts, entry.token) == (State.RUNNING, 1, win.token)
    assert (entry.worker, entry.due_at, entry.message, entry.result) == (here.worker, None, None, None)
    assert entry.keyed


@CHAPTER.case()
async def of_two_handles_exactly_one_wins(backend: Backend) -> None:
    """The loser is told the winner's token."""
    one, two = await process(backend), await process(backend)
    for number in range(20):
        first, second = await asyncio.gather(one.ask(claim(f"k-{number}")), two.ask(claim(f"k-{number}")))
        wins = [answer for answer in (first, second) if isinstance(answer, Won)]
        losses = [answer for answer in (first, second) if isinstance(answer, Held)]
        assert (len(wins), len(losses)) == (1, 1), (first, second)
        assert (losses[0].state, losses[0].token) == (State.RUNNING, wins[0].token)


@CHAPTER.case()
async def of_two_crossing_batches_each_key_is_won_once(backend: Backend) -> None:
    """Batches in opposite order neither share a key nor block each other for good."""
    one, two = await process(backend), await process(backend)
    keys = [f"k-{number}" for number in range(200)]
    (_, left), (_, right) = await asyncio.gather(
        one.store.inbox.turn(one.worker, [], [claim(key) for key in keys]),
        two.store.inbox.turn(two.worker, [], [claim(key) for key in reversed(keys)]),
    )
    for key, first, second in zip(keys, left, reversed(right), strict=True):
        assert isinstance(first, Won) != isinstance(second, Won), (key, first, second)


@CHAPTER.case()
async def the_same_claim_again_is_the_same_win(backend: Backend) -> None:
    """A lost reply is not a lost key: the nonce is known again, whatever handle asks."""
    one, two = await process(backend), await process(backend)
    wish = claim()
    first = await one.win(wish)
    assert await one.ask(wish) == first
    assert await one.store.inbox.look([wish]) == [None]
    assert isinstance(await two.ask(claim()), Held)
    assert await one.ask(wish) == first
    assert (await one.entry(wish)).attempts == 1


@CHAPTER.case()
async def another_nonce_is_held(backend: Backend) -> None:
    """The worker's own second claim of a running key is a duplicate, not the same claim."""
    here = await process(backend)
    win = await here.win(claim())
    held = await here.held_of(claim(), await here.ask(claim()))
    assert held == Held(State.RUNNING, stored=False, token=win.token, attempt=1)


@CHAPTER.case()
async def a_nonce_wins_nothing_once_its_attempt_has_ended(backend: Backend) -> None:
    """The repeated claim of a done or dead entry is held, and a retried entry with bytes is not claimed by it."""
    here = await process(backend)
    for kind, state in ((Kind.COMPLETE, State.DONE), (Kind.BURY, State.DEAD), (Kind.RETRY, State.WAITING)):
        wish = claim(kind.name, message=BODY)
        await here.ended(wish, (await here.win(wish)).token, kind)
        assert (await here.held(wish)).state is state


@CHAPTER.case()
async def tokens_rise_over_keys_and_handles(backend: Backend) -> None:
    """Tokens come from one sequence of the whole store: claims, due, redrives and resolutions draw from it."""
    one, two = await process(backend), await process(backend)
    other = await process(backend, app="other")
    tokens = [
        (await one.win(claim("a"))).token,
        (await two.win(claim("b"))).token,
        (await other.win(claim("a", app="other"))).token,
    ]
    await one.ended(claim("a"), tokens[0], Kind.RETRY, message=BODY)
    tokens.append(only(await two.due()).token)
    await two.ended(claim("b"), tokens[1], Kind.BURY)
    assert await one.store.operator.redrive(claim("b").identity, tokens[1], "mended")
    tokens.append((await one.entry(claim("b"))).token)
    tokens.append((await two.win(claim("c"))).token)
    assert tokens == sorted(set(tokens)), tokens


@CHAPTER.case()
async def tokens_rise_after_a_purge(backend: Backend) -> None:
    """A key that was forgotten starts with a token above every one that was given out before."""
    here = await process(backend)
    last = 0
    for _ in range(3):
        win = await here.win(claim())
        assert win.token > last
        assert win.attempt == 1
        last = win.token
        await here.ended(claim(), last, Kind.COMPLETE)
        await backend.age(LATER)
        assert await here.store.operator.purge(app="shop", handler=HANDLER, older_than=1, limit=10) == 1


@CHAPTER.case()
async def another_payload_conflicts_in_every_state(backend: Backend) -> None:
    """Same key, other payload: never a duplicate, and nothing is changed."""
    here = await process(backend)
    for state in _STATES:
        wish = await here.bring(state.word, state)
        other = msgspec.structs.replace(wish, fingerprint=fingerprint_of_bytes(b"other"))
        await _conflicts(backend, wish, other)


@CHAPTER.case()
async def another_raw_key_conflicts_in_every_state(backend: Backend) -> None:
    """The raw key is compared on a hit of the identity."""
    here = await process(backend)
    for state in _STATES:
        wish = await here.bring(state.word, state)
        await _conflicts(backend, wish, msgspec.structs.replace(wish, key=b"another key"))


@CHAPTER.case()
async def a_known_nonce_does_not_excuse_another_payload(backend: Backend) -> None:
    """A running entry's own nonce with another payload is a conflict."""
    here = await process(backend)
    wish = claim()
    await here.win(wish)
    await _conflicts(backend, wish, msgspec.structs.replace(wish, fingerprint=fingerprint_of_bytes(b"other")))


async def _conflicts(backend: Backend, wish: Claim, other: Claim) -> None:
    here = await process(backend)
    before = await here.entry(wish)
    answer = await here.ask(other)
    assert isinstance(answer, Conflicting), (before.state, answer)
    assert answer.reason
    looked = await here.store.inbox.look([other])
    assert isinstance(looked[0], Conflicting), (before.state, looked)
    assert await here.entry(wish) == before


@CHAPTER.case()
async def a_received_entry_is_claimed_only_by_who_may_start_stored_ones(backend: Backend) -> None:
    """It holds its bytes: a redelivery is held, a claim that says `stored` wins attempt 1."""
    here = await process(backend)
    await here.store.arrivals.land([landing()])
    held = await here.held(claim())
    assert (held.state, held.stored, held.attempt) == (State.RECEIVED, True, 0)
    win = await here.win(claim(stored=True))
    assert win.attempt == 1
    assert (await here.entry(claim())).message == BODY


@CHAPTER.case()
async def a_waiting_entry_without_bytes_is_won_by_its_redelivery(backend: Backend) -> None:
    """Even before it is due: nobody else can bring it."""
    here = await process(backend)
    first = await here.win(claim())
    await here.ended(claim(), first.token, Kind.RETRY, delay=LATER)
    second = await here.win(claim())
    assert second.attempt == 2
    assert second.token > first.token


@CHAPTER.case()
async def a_waiting_entry_with_bytes_is_held_until_it_is_due(backend: Backend) -> None:
    """Also from a claim that says `stored`; from one that does not, always."""
    here = await process(backend)
    await here.ended(claim(), (await here.win(claim())).token, Kind.RETRY, delay=LATER, message=BODY)
    assert (await here.held(claim(stored=True))).state is State.WAITING
    await backend.hasten()
    assert (await here.held(claim())).state is State.WAITING
    assert (await here.win(claim(stored=True))).attempt == 2


@CHAPTER.case()
async def a_landed_entry_is_held_until_its_delay_is_over(backend: Backend) -> None:
    """A claim that says `stored` wins only what is due."""
    here = await process(backend)
    await here.store.arrivals.land([landing(delay=LATER)])
    assert (await here.held(claim(stored=True))).state is State.RECEIVED
    await backend.hasten()
    assert (await here.win(claim(stored=True))).attempt == 1


@CHAPTER.case()
async def held_tells_what_is_known(backend: Backend) -> None:
    """State, bytes, token, attempts, result and reason, in every state."""
    here = await process(backend)
    wanted = {
        State.RECEIVED: (True, 0, None, None),
        State.DONE: (False, 1, b"receipt", None),
        State.IN_DOUBT: (True, 1, None, "no reply"),
        State.DEAD: (True, 1, None, "refused"),
        State.WAITING: (True, 1, None, "busy"),
    }
    for state, (stored, attempt, result, reason) in wanted.items():
        await here.bring(state.word, state)
        token = (await here.entry(claim(state.word))).token
        expected = Held(state, stored, token, attempt, result, reason)
        assert await here.held_of(claim(state.word), await here.ask(claim(state.word))) == expected
        [looked] = await here.store.inbox.look([claim(state.word)])
        assert await here.held_of(claim(state.word), looked) == expected
    await here.bring("bare", State.RUNNING, message=None)
    held = await here.held(claim("bare"))
    assert (held.state, held.stored, held.attempt) == (State.RUNNING, False, 1)


@CHAPTER.case()
async def an_empty_result_is_not_the_lack_of_one(backend: Backend) -> None:
    """`b""` stays `b""`, and `None` stays `None`."""
    here = await process(backend)
    for key, result in (("none", None), ("empty", b"")):
        await here.ended(claim(key), (await here.win(claim(key))).token, Kind.COMPLETE, result=result)
        assert (await here.held(claim(key))).result == result
        assert (await here.entry(claim(key))).result == result


@CHAPTER.case()
async def bytes_given_with_a_claim_are_kept(backend: Backend) -> None:
    """For sources that cannot deliver again: a later retry needs no bytes any more."""
    here = await process(backend)
    win = await here.win(claim(message=BODY))
    assert (await here.held(claim())).stored
    await here.ended(claim(), win.token, Kind.RETRY)
    assert only(await here.due()).message == BODY


@CHAPTER.case()
async def a_claim_brings_the_bytes_that_an_entry_lacks(backend: Backend) -> None:
    """A waiting entry without bytes that is claimed with them holds them from then on."""
    here = await process(backend)
    await here.bring("k-1", State.WAITING, message=None)
    win = await here.win(claim(message=BODY))
    await here.ended(claim(), win.token, Kind.RETRY)
    assert only(await here.due()).message == BODY


@CHAPTER.case()
async def a_claim_does_not_replace_bytes(backend: Backend) -> None:
    """The entry keeps the message that it holds."""
    here = await process(backend)
    await here.bring("k-1", State.WAITING)
    await here.win(claim(stored=True, message=body(b"other")))
    assert (await here.entry(claim())).message == BODY


@CHAPTER.case()
async def a_closed_worker_claims_nothing(backend: Backend) -> None:
    """Refused with `StoreUnavailable`, and nothing of that call has happened."""
    here, gone = await process(backend), await process(backend)
    win = await gone.win(claim("running"))
    await gone.store.workers.close(gone.worker)
    settle = end(claim("running"), win.token, Kind.COMPLETE)
    try:
        await gone.store.inbox.turn(gone.worker, [settle], [claim("new")])
    except StoreUnavailable:
        pass
    else:
        raise AssertionError("a closed worker's claim was accepted")
    assert await here.seen(claim("new")) is None
    assert (await here.entry(claim("running"))).state is State.RUNNING


@CHAPTER.case()
async def a_closed_worker_may_still_settle(backend: Backend) -> None:
    """Its attempts ended, and their outcome counts."""
    here = await process(backend)
    win = await here.win(claim())
    await here.store.workers.close(here.worker)
    await here.ended(claim(), win.token, Kind.COMPLETE, result=b"receipt")
    assert (await here.entry(claim())).state is State.DONE


@CHAPTER.case()
async def answers_come_in_the_order_of_the_claims(backend: Backend) -> None:
    """Won, held and conflicting side by side."""
    here = await process(backend)
    for key in ("done", "dead", "clash"):
        await here.bring(key, State.DONE if key == "done" else State.DEAD)
    wishes = [
        claim("z"),
        claim("done"),
        claim("clash", payload=b"other"),
        claim("a"),
        claim("dead"),
        claim("m"),
    ]
    _, answers = await here.store.inbox.turn(here.worker, [], wishes)
    assert [type(answer) for answer in answers] == [Won, Held, Conflicting, Won, Held, Won]
    assert answers[1] == await here.ask(claim("done"))
    for position in (0, 3, 5):
        assert (await here.entry(wishes[position])).token == won(answers[position]).token


@CHAPTER.case()
async def five_hundred_at_once(backend: Backend) -> None:
    """A large batch is one verb: all won with different tokens, then all settled while the next are claimed."""
    here = await process(backend)
    first = [claim(f"a-{number}") for number in range(500)]
    _, answers = await here.store.inbox.turn(here.worker, [], first)
    tokens = [won(answer).token for answer in answers]
    assert len(set(tokens)) == 500
    settles = [end(wish, token, Kind.COMPLETE) for wish, token in zip(first, tokens, strict=True)]
    settled, answers = await here.store.inbox.turn(
        here.worker, settles, [claim(f"b-{n}") for n in range(500)]
    )
    assert {one.value for one in settled} == {"ok"}
    assert all(isinstance(answer, Won) for answer in answers)
    assert len(await here.store.operator.entries(states=[State.DONE])) == 500


@CHAPTER.case()
async def nothing_asked_is_nothing_done(backend: Backend) -> None:
    """Empty sequences are no-ops."""
    here = await process(backend)
    assert await here.store.inbox.turn(here.worker, [], []) == ([], [])
    assert await here.store.inbox.look([]) == []
    assert await here.store.operator.entries() == []


@CHAPTER.case()
async def look_answers_as_turn_would_and_changes_nothing(backend: Backend) -> None:
    """`None` where it would be won."""
    here = await process(backend)
    for state in State:
        await here.bring(state.word, state)
    before = await here.store.operator.entries()
    for stored, winnable in ((False, {State.ABSENT}), (True, {State.ABSENT, State.RECEIVED, State.WAITING})):
        wishes = [claim(state.word, stored=stored) for state in State]
        looked = await here.store.inbox.look(wishes)
        assert [answer is None for answer in looked] == [state in winnable for state in State]
        assert await here.store.operator.entries() == before
        for wish, answer in zip(wishes, looked, strict=True):
            if answer is not None:
                assert await here.ask(wish) == answer
    assert await here.store.operator.entries() == before


@CHAPTER.case()
async def keys_are_any_bytes(backend: Backend) -> None:
    """NUL, bytes that are not UTF-8, and the longest key: kept as they are, told apart, found again."""
    here = await process(backend)
    keys = [
        b"\x00",
        b"\x00\x00",
        b"a\x00b",
        b"\xff\xfe",
        b" a",
        b"a ",
        b"a",
        b"A",
        b"\x80" * 255,
        "ключ".encode(),
    ]
    _, answers = await here.store.inbox.turn(here.worker, [], [claim(key) for key in keys])
    assert all(isinstance(answer, Won) for answer in answers)
    for key in keys:
        assert (await here.entry(claim(key))).key == key
        assert (await here.held(claim(key))).state is State.RUNNING


@CHAPTER.case()
async def app_tenant_and_handler_keep_keys_apart(backend: Backend) -> None:
    """The same raw key is four operations, with an entry each."""
    here, other = await process(backend), await process(backend, app="other")
    wins = [
        await here.win(claim()),
        await here.win(claim(tenant="acme")),
        await here.win(claim(handler="ship")),
        await other.win(claim(app="other")),
    ]
    assert [win.attempt for win in wins] == [1, 1, 1, 1]
    await here.ended(claim(tenant="acme"), wins[1].token, Kind.COMPLETE)
    entries = await here.store.operator.find(b"k-1")
    assert sorted((entry.app, entry.tenant, entry.handler, entry.state) for entry in entries) == [
        ("other", "public", HANDLER, State.RUNNING),
        ("shop", "acme", HANDLER, State.DONE),
        ("shop", "public", HANDLER, State.RUNNING),
        ("shop", "public", "ship", State.RUNNING),
    ]


@CHAPTER.case()
async def a_claim_brings_its_lapse_rule_and_budget(backend: Backend) -> None:
    """The row remembers those of the claim that runs, whatever it was landed with."""
    gone, here = await process(backend), await process(backend)
    await here.store.arrivals.land([landing("lapse"), landing("retry")])
    await gone.win(claim("lapse", stored=True, on_lapse=OnLapse.WAITING, budget=2))
    win = await here.win(claim("retry", stored=True, budget=1))
    await here.ended(claim("retry"), win.token, Kind.RETRY)
    assert (await here.entry(claim("retry"))).state is State.DEAD
    await backend.kill(gone.store, gone.worker)
    await here.store.workers.lapse()
    assert [one.state for one in await here.store.workers.adopt(10)] == [State.WAITING]
