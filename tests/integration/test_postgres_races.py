"""Moments between two statements, made long: what was read before is not acted on, and what is not known is not guessed."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from consumer.entry import Answer, Held, Kind, Landed, Settle, State, Won
from consumer.stores.postgres import PostgresStore, claims, operator
from consumer.testing.contract.samples import claim, landing, outgoing


@pytest.mark.parametrize("way", ["turn", "group"])
async def test_what_was_read_is_compared_when_it_is_written(store, postgres_url, monkeypatch, way):
    """Between our look at a received key and our claim of it another process claims it: it has it, we have not.

    Mutant: check-then-act (`_WAKE` without the states that may be claimed).
    """
    worker = await store.workers.open(600, "here")
    await store.arrivals.land([landing()])
    there = PostgresStore(postgres_url, "shop")
    await there.open()
    other = await there.workers.open(600, "there")
    theirs: list[Answer] = []
    look = claims.look

    async def looked_just_before(connection, wishes):
        rows = await look(connection, wishes)
        if not theirs:
            theirs.append(Held(State.RUNNING, stored=True))  # their own claim looks too
            _, theirs[:] = await there.inbox.turn(other, [], [claim(stored=True)])
        return rows

    monkeypatch.setattr(claims, "look", looked_just_before)
    if way == "turn":
        _, [ours] = await store.inbox.turn(worker, [], [claim(stored=True)])
    else:
        group = await store.groups.open()
        [ours] = await group.claim([claim(stored=True)])
        await group.rollback()
    [won] = theirs
    assert isinstance(won, Won)
    assert isinstance(ours, Held), ours
    assert (ours.state, ours.token) == (State.RUNNING, won.token)
    settled, _ = await there.inbox.turn(other, [Settle(claim().identity, won.token, Kind.COMPLETE)], [])
    assert [one.value for one in settled] == ["ok"]
    await there.close()


async def test_one_purges_at_a_time(store, postgres_url):
    """Mutant: a purge that takes no turn (then every process of a hundred reads the same old entries)."""
    worker = await store.workers.open(600, "here")
    _, [won] = await store.inbox.turn(worker, [], [claim()])
    await store.inbox.turn(worker, [Settle(claim().identity, won.token, Kind.COMPLETE)], [])
    other = await asyncpg.connect(postgres_url)
    theirs = other.transaction()
    await theirs.start()
    mine = {"app": "shop", "handler": claim().handler, "older_than": -1.0, "limit": 10}
    await other.execute(operator._PURGE, "another app", claim().handler, -1.0, 10)
    await other.execute(operator._PURGE, "shop", "another handler", -1.0, 10)
    await other.execute(operator._PURGE, "shop", claim().handler, 1e6, 10)
    assert await store.operator.purge(**mine) == 0, "somebody is at it"
    await theirs.rollback()
    assert await store.operator.purge(**mine) == 1
    await other.close()


async def test_a_transaction_in_progress_is_asked_about_again(store):
    """The connection is lost while the server still works on the COMMIT: the answer waits for the server's.

    Mutant: exception on COMMIT taken for "not committed" (`PostgresGroups._ask`: in progress means no).
    """
    group = await store.groups.open()
    await group.claim([claim()])
    await group.seal()
    asking = asyncio.create_task(group.outcome())
    asked, _ = await asyncio.wait([asking], timeout=0.5)
    assert not asked, "the transaction is open: nobody can know yet"
    await group.commit()
    assert await asking


async def test_a_refused_completion_sends_nothing(store):
    """Also in the one statement of a plain turn, beside one that is accepted.

    Mutant: eager outbox insert (`_SENDS` without the join to what was settled).
    """
    worker = await store.workers.open(600, "here")
    _, answers = await store.inbox.turn(worker, [], [claim("good"), claim("lost")])
    settles = [
        Settle(claim(key).identity, answer.token + (key == "lost"), Kind.COMPLETE, outgoing=(outgoing(key),))
        for key, answer in zip(("good", "lost"), answers, strict=True)
    ]
    settled, _ = await store.inbox.turn(worker, settles, [])
    assert [one.value for one in settled] == ["ok", "lost"]
    assert [row.outgoing.value for row in await store.operator.outgoing()] == [b"good"]


async def test_a_landing_waits_for_nobody_who_writes_to_an_entry_that_is_there(store, postgres_url):
    """An insert would wait for the other transaction's end, and give up before that: this one has none."""
    await store.arrivals.land([landing("there")])
    other = await asyncpg.connect(postgres_url)
    writing = other.transaction()
    await writing.start()
    await other.execute("update consumer_inbox set reason = 'written'")
    landed: object
    [landed] = await asyncio.gather(
        store.arrivals.land([landing("new"), landing("there")]), return_exceptions=True
    )
    assert landed == [Landed.NEW, Landed.DUPLICATE]
    await writing.rollback()
    await other.close()


async def test_what_lands_in_one_call_is_due_in_its_order(store):
    """Whatever the order of their identities is, in which they are written."""
    worker = await store.workers.open(600, "here")
    keys = [f"k-{number}" for number in range(20)]
    await store.arrivals.land([landing(key) for key in keys])
    taken = await store.arrivals.due(worker, [landing().handler], 20)
    assert [one.key.decode() for one in taken] == keys
