"""A COMMIT whose reply, or whose request, is lost: a proxy between loses it, and the server is asked what became of it."""

from __future__ import annotations

import asyncio

import pytest

from consumer.entry import State, Won
from consumer.errors import CommitUnknown, StoreUnavailable
from consumer.stores.postgres import PostgresStore
from consumer.testing.contract.samples import claim
from tests.proxy import Proxy


@pytest.fixture
async def proxy(postgres_url):
    async with Proxy(postgres_url) as made:
        yield made


@pytest.fixture
async def store(proxy):
    made = PostgresStore(proxy.url, "shop")
    await made.migrate(["create table effects (id int)"])
    await made.open()
    yield made
    await made.close()


async def lost(store, proxy, what):
    """A group whose COMMIT lost its request or its reply."""
    group = await store.groups.open()
    [answer] = await group.claim([claim("k-1")])
    assert isinstance(answer, Won)
    await group.execute("insert into effects values (1)", [])
    await group.seal()
    proxy.swallow = what
    committing = asyncio.create_task(group.commit())
    await asyncio.wait_for(proxy.swallowed.wait(), 20)
    proxy.cut()
    with pytest.raises(CommitUnknown):
        await committing
    return group


@pytest.mark.parametrize(("what", "committed"), [("replies", True), ("requests", False)])
async def test_the_outcome_is_asked_for_on_a_new_connection(store, proxy, what, committed):
    group = await lost(store, proxy, what)
    assert await group.outcome() is committed
    await group.rollback()
    entries = await store.operator.find(b"k-1")
    assert [entry.state for entry in entries] == ([State.DONE] if committed else [])
    again = await store.groups.open()
    rows = await again.fetch("select count(*) from effects", [])
    await again.rollback()
    assert rows[0][0] == committed


async def test_a_server_that_cannot_be_asked_leaves_it_unknown(store, proxy):
    group = await lost(store, proxy, "replies")
    proxy.refuse = True
    store.groups._patience = 0.05
    with pytest.raises(StoreUnavailable, match="not known"):
        await group.outcome()
    proxy.refuse = False
    assert await group.outcome() is True


async def test_the_entry_is_the_proof_where_the_number_was_given_twice(store, proxy):
    group = await lost(store, proxy, "replies")
    await store.operator.purge(app="shop", handler="pay", older_than=-60, limit=10)
    assert (
        await group.outcome() is False
    )  # as on a promoted replica, where another transaction has this number


async def test_a_cancelled_caller_does_not_cancel_the_commit(store, proxy):
    group = await store.groups.open()
    await group.claim([claim("k-1")])
    await group.seal()
    committing = asyncio.create_task(group.commit())
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await group.rollback()  # waits for the COMMIT, and undoes nothing
    assert [entry.state for entry in await store.operator.find(b"k-1")] == [State.DONE]


async def test_a_lost_reply_to_a_claim_is_not_a_lost_key(store, proxy):
    worker = await store.workers.open(600, "test")
    wish = claim("k-1")
    proxy.swallow = "replies"
    turning = asyncio.create_task(store.inbox.turn(worker, [], [wish]))
    await asyncio.wait_for(proxy.swallowed.wait(), 20)
    proxy.cut()
    with pytest.raises(StoreUnavailable):
        await turning
    _, [answer] = await store.inbox.turn(worker, [], [wish])
    assert isinstance(answer, Won)
    assert [token for _, token, _ in await store.workers.claims(worker)] == [answer.token]


async def test_a_cancelled_caller_does_not_tear_a_turn(store):
    worker = await store.workers.open(600, "test")
    turning = asyncio.create_task(store.inbox.turn(worker, [], [claim("k-1"), claim("k-2")]))
    await asyncio.sleep(0)
    turning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turning
    await store.close()  # waits for what is under way
    assert len(await store.workers.claims(worker)) == 2


async def test_connections_that_died_while_they_idled_are_replaced(store, proxy):
    groups = [await store.groups.open() for _ in range(3)]
    for group in groups:
        await group.rollback()
    proxy.cut()
    group = await store.groups.open()
    assert isinstance((await group.claim([claim("k-1")]))[0], Won)
    await group.rollback()
