"""`Group` and `Groups`: entries that become done in the transaction of their handlers."""

from __future__ import annotations

import asyncio

from consumer.entry import Answer, Conflicting, Held, Kind, State, Won
from consumer.errors import Contended, GroupFault, StoreUnavailable
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Chapter
from consumer.testing.contract.ledger import INSERT, finish, group, ledger, make_ledger
from consumer.testing.contract.samples import (
    BODY,
    HANDLER,
    LATER,
    Process,
    claim,
    end,
    landing,
    only,
    outgoing,
    process,
    won,
)

__all__ = ["CHAPTER"]

CHAPTER = Chapter("groups")

_PROMPT = 5.0
"""Seconds within which a lock time-out of a tenth of one is answered on a busy machine."""


@CHAPTER.case("transactions")
async def a_claim_and_its_commit(backend: Backend) -> None:
    """Won, attempt 1; after the commit done with its result, for every handle."""
    here, there = await process(backend), await process(backend)
    wish = claim(tenant="acme")
    async with group(here) as opened:
        answer = only(await opened.claim([wish]))
        win = won(answer)
        await opened.fill([(wish.identity, b"receipt")], [], [])
        await finish(opened)
    entry = await there.entry(wish)
    assert win.attempt == 1
    assert (entry.app, entry.tenant, entry.handler, entry.key) == ("shop", "acme", HANDLER, b"k-1")
    assert (entry.state, entry.attempts, entry.token, entry.result) == (State.DONE, 1, win.token, b"receipt")
    assert (entry.worker, entry.due_at, entry.story) == (None, None, ())
    held = await there.held_of(wish, await there.ask(wish))
    assert held == Held(State.DONE, stored=False, token=win.token, attempt=1, result=b"receipt")


@CHAPTER.case("transactions")
async def nobody_sees_a_group_before_its_commit(backend: Backend) -> None:
    """Neither the entry nor the handler's rows; afterwards all at once."""
    here, there = await process(backend), await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        await opened.fill([(claim().identity, b"receipt")], [outgoing("o")], [landing("l")])
        async with asyncio.timeout(_PROMPT):
            assert await there.seen(claim()) is None
            assert await there.seen(landing("l")) is None
            assert await there.sent_out() == []
        await finish(opened)
    assert (await there.entry(claim())).state is State.DONE
    assert await there.sent_out() == ["o"]
    assert await ledger(there) == [("k-1", 5)]
    assert only(await there.due()).key == b"l"


@CHAPTER.case("transactions")
async def a_rollback_leaves_nothing(backend: Backend) -> None:
    """No entry, no rows, no messages, no landings; the key is then new."""
    here = await process(backend)
    await make_ledger(here)
    await here.store.arrivals.land([landing("due")])
    before = await here.entry(landing("due"))
    async with group(here) as opened:
        await opened.claim([claim()])
        assert len(await opened.due([HANDLER], 10)) == 1
        await opened.execute(INSERT, ["k-1", 5])
        await opened.fill([(claim().identity, b"receipt")], [outgoing("o")], [landing("l")])
        await opened.rollback()
    assert await here.seen(claim()) is None
    assert await here.seen(landing("l")) is None
    assert await here.entry(landing("due")) == before
    assert await here.sent_out() == []
    assert await ledger(here) == []
    assert (await here.win(claim())).attempt == 1


@CHAPTER.case("transactions")
async def a_rollback_after_the_gate_was_opened(backend: Backend) -> None:
    """Up to the commit everything can be undone."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.execute(INSERT, ["k-1", 5])
        await opened.seal()
        await opened.rollback()
    assert await here.seen(claim()) is None
    assert await ledger(here) == []


@CHAPTER.case("transactions")
async def a_group_claim_answers_as_turn_does(backend: Backend) -> None:
    """In order: won, held in every state that is not the group's to run, conflicting."""
    here = await process(backend)
    for state in State:
        await here.bring(state.word, state)
    await here.bring("bare", State.WAITING, message=None)
    await here.bring("clash", State.DEAD)
    wishes = [claim(state.word) for state in State] + [
        claim("bare"),
        claim("clash", payload=b"other"),
        claim("a"),
    ]
    looked = await here.store.inbox.look(wishes)
    async with group(here) as opened:
        answers = await opened.claim(wishes)
        await finish(opened)
    for wish, expected, answer in zip(wishes, looked, answers, strict=True):
        if isinstance(expected, Conflicting):
            assert isinstance(answer, Conflicting), wish.key
        elif expected is None:
            assert isinstance(answer, Won), wish.key
            assert (await here.entry(wish)).state is State.DONE
        else:
            assert answer == expected, wish.key
    assert [isinstance(answer, Won) for answer in answers].count(True) == 3


@CHAPTER.case("transactions")
async def a_running_entry_is_held_even_by_its_own_nonce(backend: Backend) -> None:
    """A group's claim has no nonce: what runs outside is another's."""
    here = await process(backend)
    wish = claim()
    win = await here.win(wish)
    async with group(here) as opened:
        answer = only(await opened.claim([wish]))
        held = await here.held_of(wish, answer)
        assert held == Held(State.RUNNING, stored=False, token=win.token, attempt=1)
        await finish(opened)
    assert (await here.entry(wish)).state is State.RUNNING


@CHAPTER.case("transactions")
async def stored_entries_are_claimed_as_turn_does(backend: Backend) -> None:
    """Received or waiting: with `stored` when due, and without bytes always; attempts and tokens go on."""
    here = await process(backend)
    await here.store.arrivals.land([landing("received"), landing("later", delay=LATER)])
    await here.bring("waiting", State.WAITING)
    await here.bring("bare", State.WAITING, message=None)
    before = {row.key: row.token for row in await here.store.operator.entries()}
    wishes = [claim(key, stored=True) for key in ("received", "waiting", "bare", "later")]
    async with group(here) as opened:
        answers = await opened.claim(wishes)
        await finish(opened)
    wins = [won(answer) for answer in answers[:3]]
    assert [win.attempt for win in wins] == [1, 2, 2]
    for wish, win in zip(wishes, wins, strict=False):
        assert win.token > before[wish.key]
        entry = await here.entry(wish)
        assert (entry.state, entry.token, entry.attempts) == (State.DONE, win.token, win.attempt)
    assert isinstance(answers[3], Held)


@CHAPTER.case("transactions")
async def tokens_of_groups_are_of_the_same_sequence(backend: Backend) -> None:
    """Claims outside and inside of transactions, and what a group takes, rise together."""
    here = await process(backend)
    await here.store.arrivals.land([landing("due")])
    tokens = [(await here.win(claim("a"))).token]
    async with group(here) as opened:
        tokens.append(won((await opened.claim([claim("b")]))[0]).token)
        tokens.append(only(await opened.due([HANDLER], 10)).token)
        await finish(opened)
    tokens.append((await here.win(claim("c"))).token)
    assert tokens == sorted(set(tokens)), tokens


async def _claims_beside(there: Process, done: asyncio.Event) -> list[Answer] | Exception:
    """Claim k-1 in a group of another handle; return what became of it."""
    try:
        async with group(there) as opened:
            answers = await opened.claim([claim()])
            await opened.rollback()
    except (Contended, StoreUnavailable) as fault:
        return fault
    finally:
        done.set()
    return answers


@CHAPTER.case("transactions")
async def nobody_waits_long_for_an_uncommitted_key(backend: Backend) -> None:
    """Another group's claim of it is held or contended within about the lock time-out.

    Where the store has one writer the other group waits for its turn before its claim; it is then held.
    """
    here, there = await process(backend), await process(backend)
    done = asyncio.Event()
    async with group(here) as opened:
        await opened.claim([claim()])
        other = asyncio.create_task(_claims_beside(there, done))
        one_writer = here.store.groups is not None and here.store.groups.lanes == 1
        try:
            async with asyncio.timeout(0.5 if one_writer else _PROMPT):
                await done.wait()
        except TimeoutError:
            assert one_writer, "the claim of an uncommitted key waits for its commit"
            waited = True
        else:
            waited = False
        await finish(opened)
    answer = await other
    if isinstance(answer, list):
        assert isinstance(answer[0], Held), answer
        assert answer[0].state is State.DONE or not waited


@CHAPTER.case("transactions")
async def of_two_groups_one_wins_a_key(backend: Backend) -> None:
    """At once, on two handles, whatever is contended: never both, and what was won is done."""
    one, two = await process(backend), await process(backend)
    await make_ledger(one)

    async def run(here: Process, number: int) -> bool:
        try:
            async with group(here) as opened:
                answer = only(await opened.claim([claim(f"k-{number}")]))
                if not isinstance(answer, Won):
                    await opened.rollback()
                    return False
                await opened.execute(INSERT, [f"k-{number}", number])
                await finish(opened)
        except Contended:
            return False
        return True

    for number in range(10):
        left, right = await asyncio.gather(run(one, number), run(two, number))
        assert left != right, (left, right)
    assert await ledger(one) == sorted((f"k-{number}", number) for number in range(10))


@CHAPTER.case("transactions")
async def an_unclaimed_new_key_is_absent_again(backend: Backend) -> None:
    """What has not run is taken out before the commit of what has."""
    here = await process(backend)
    wishes = [claim(f"k-{number}") for number in range(4)]
    async with group(here) as opened:
        await opened.claim(wishes)
        await opened.unclaim([wishes[1].identity, wishes[3].identity])
        await opened.unclaim([])
        await opened.fill([(wishes[0].identity, b"r")], [], [])
        await finish(opened)
    assert [(await here.entry(wishes[number])).state for number in (0, 2)] == [State.DONE, State.DONE]
    for number in (1, 3):
        assert await here.seen(wishes[number]) is None
        assert (await here.win(wishes[number])).attempt == 1


@CHAPTER.case("transactions")
async def an_unclaimed_stored_key_is_as_it_was(backend: Backend) -> None:
    """State, bytes, due time, attempts, token and reason, whether it was claimed or taken as due."""
    here = await process(backend)
    for way in ("claimed", "due"):
        wishes = [
            await here.bring(f"{way}-received", State.RECEIVED),
            await here.bring(f"{way}-waiting", State.WAITING),
        ]
        if way == "claimed":
            wishes.append(await here.bring(f"{way}-bare", State.WAITING, message=None))
        before = [await here.entry(wish) for wish in wishes]
        async with group(here) as opened:
            if way == "claimed":
                assert all(isinstance(answer, Won) for answer in await opened.claim(wishes))
            else:
                taken = await opened.due([HANDLER], 10)
                assert {row.identity for row in taken} >= {wish.identity for wish in wishes}
                await opened.unclaim([row.identity for row in taken])
            await opened.unclaim([wish.identity for wish in wishes] if way == "claimed" else [])
            await finish(opened)
        assert [await here.entry(wish) for wish in wishes] == before, way


@CHAPTER.case("transactions")
async def everything_unclaimed_is_nothing_done(backend: Backend) -> None:
    """A group in which no handler ran may still be committed; so may one that won nothing."""
    here = await process(backend)
    await make_ledger(here)
    async with group(here) as opened:
        await opened.claim([claim()])
        await opened.unclaim([claim().identity])
        await finish(opened)
    assert await here.seen(claim()) is None
    await here.bring("dead", State.DEAD)
    async with group(here) as opened:
        assert isinstance((await opened.claim([claim("dead")]))[0], Held)
        await finish(opened)
    async with group(here) as opened:
        assert await opened.claim([]) == []
        assert await opened.due([HANDLER], 10) == []
        await opened.fill([], [], [])
        await opened.executemany(INSERT, [])
        await finish(opened)
    assert (await here.entry(claim("dead"))).state is State.DEAD


@CHAPTER.case("transactions")
async def a_settled_entry_is_at_rest_with_the_commit_of_the_rest(backend: Backend) -> None:
    """New, stored, or taken as due: one attempt counted, its bytes kept, its story told; unseen before the commit."""
    here, there = await process(backend), await process(backend)
    await here.bring("stored", State.WAITING)
    done, new, stored, spent = (
        claim("done"),
        claim("new"),
        claim("stored", stored=True),
        claim("spent", budget=1),
    )
    before = await here.entry(stored)
    await here.store.arrivals.land([landing("due")])
    async with group(here) as opened:
        wins = [won(answer) for answer in await opened.claim([done, new, stored, spent])]
        due = only(await opened.due([HANDLER], 10))
        await opened.settle(
            [
                end(due, due.token, Kind.RETRY, reason="not yet", delay=LATER),
                end(new, wins[1].token, Kind.BURY, reason="never", message=BODY),
                end(stored, wins[2].token, Kind.RETRY, reason="not yet", delay=LATER),
                end(spent, wins[3].token, Kind.RETRY, reason="not yet", message=BODY),
            ]
        )
        await opened.settle([])
        async with asyncio.timeout(_PROMPT):
            assert await there.entry(stored) == before
        await finish(opened)
    assert (await here.entry(done)).state is State.DONE
    for named, token, state, attempts, reason in (
        (new, wins[1].token, State.DEAD, 1, "never"),
        (stored, wins[2].token, State.WAITING, before.attempts + 1, "not yet"),
        (spent, wins[3].token, State.DEAD, 1, "not yet"),
        (due, due.token, State.WAITING, 1, "not yet"),
    ):
        entry = await there.entry(named)
        assert (entry.state, entry.token, entry.attempts, entry.reason) == (state, token, attempts, reason)
        assert (entry.message, entry.worker) == (BODY, None), named.key
        assert entry.story[-1].event == ("retry" if state is State.WAITING else "bury"), named.key
    assert await there.due() == [], "what was settled is not due before its time"


@CHAPTER.case("transactions")
async def a_rollback_takes_settles_back(backend: Backend) -> None:
    """As everything else of a group: nothing has happened."""
    here = await process(backend)
    await here.bring("stored", State.WAITING)
    new, stored = claim("new"), claim("stored", stored=True)
    before = await here.entry(stored)
    async with group(here) as opened:
        wins = [won(answer) for answer in await opened.claim([new, stored])]
        await opened.settle(
            [
                end(new, wins[0].token, Kind.BURY, reason="never", message=BODY),
                end(stored, wins[1].token, Kind.BURY, reason="never"),
            ]
        )
        await opened.rollback()
    assert await here.seen(new) is None
    assert await here.entry(stored) == before


@CHAPTER.case("transactions")
async def the_connection_of_a_group_that_is_over_is_nobodys(backend: Backend) -> None:
    """A handler that was given up, and runs on, gets no connection to write on: it is the next group's by now."""
    here = await process(backend)
    for committed in (True, False):
        async with group(here) as opened:
            await opened.claim([claim(str(committed))])
            assert opened.driver is not None
            await (finish(opened) if committed else opened.rollback())
            try:
                left = opened.driver
            except GroupFault:
                left = None
            assert left is None, "the raw connection of a group that is over"


@CHAPTER.case("transactions")
async def fill_lands_and_sends_with_the_commit(backend: Backend) -> None:
    """Messages in order, landings as `land` does: new ones, duplicates, conflicts born dead."""
    here = await process(backend)
    await here.store.arrivals.land([landing("same"), landing("taken")])
    conflict = landing("taken", payload=b"other")
    async with group(here) as opened:
        await opened.claim([claim("a"), claim("b")])
        await opened.fill(
            [(claim("b").identity, b"b\x00\xff"), (claim("a").identity, b"")],
            [outgoing("one"), outgoing("two", None), outgoing("three", "acc-2", topic="else", delay=LATER)],
            [landing("same"), landing("new", delay=LATER), conflict],
        )
        await finish(opened)
    assert [(await here.entry(claim(key))).result for key in ("a", "b")] == [b"", b"b\x00\xff"]
    assert await here.sent_out() == ["one", "two", "three"]
    assert (await here.entry(landing("new"))).state is State.RECEIVED
    assert [row.identity for row in await here.store.operator.entries(states=[State.DEAD])] == [
        conflict.conflict_identity
    ]
    assert sorted(taken.key for taken in await here.due()) == [b"same", b"taken"]


@CHAPTER.case("transactions")
async def five_hundred_in_a_group(backend: Backend) -> None:
    """Unsorted, some of them duplicates; answers in their order, all done in one commit."""
    here = await process(backend)
    await make_ledger(here)
    for number in range(0, 500, 50):
        await here.bring(f"k-{number:03}", State.DONE)
    wishes = [claim(f"k-{number:03}") for number in reversed(range(500))]
    async with group(here) as opened:
        answers = await opened.claim(wishes)
        wins = [wish for wish, answer in zip(wishes, answers, strict=True) if isinstance(answer, Won)]
        await opened.executemany(INSERT, [[wish.key.decode(), 1] for wish in wins])
        await opened.fill([(wish.identity, wish.key) for wish in wins], [], [])
        await finish(opened)
    assert len(wins) == 490
    assert [isinstance(answer, Held) for answer in reversed(answers)] == [not n % 50 for n in range(500)]
    assert len(await here.store.operator.entries(states=[State.DONE])) == 500
    assert len(await ledger(here)) == 490
    assert (await here.entry(wins[7])).result == wins[7].key


@CHAPTER.case("transactions")
async def a_closed_group_gives_its_connection_back(backend: Backend) -> None:
    """More groups than there are lanes, one after the other, however they end."""
    here = await process(backend)
    assert here.store.groups is not None
    assert here.store.groups.lanes >= 1
    async with asyncio.timeout(20):
        for number in range(3 * here.store.groups.lanes + 3):
            async with group(here) as opened:
                await opened.claim([claim(f"k-{number}")])
                if number % 2:
                    await finish(opened)
                else:
                    await opened.rollback()
                    await opened.rollback()
    assert len(await here.store.operator.entries()) == (3 * here.store.groups.lanes + 3) // 2


@CHAPTER.case("transactions")
async def the_outcome_of_a_group_can_be_asked(backend: Backend) -> None:
    """After a lost reply: whether it committed."""
    here = await process(backend)
    async with group(here) as opened:
        await opened.claim([claim("yes")])
        await finish(opened)
        assert await opened.outcome()
    async with group(here) as opened:
        await opened.claim([claim("no")])
        await opened.seal()
        await opened.rollback()
        assert not await opened.outcome()
