"""Servers that lose replies, forget scripts, are full, turn into replicas, move, or do not answer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis import exceptions

from consumer.entry import Kind, Settled, State, Won
from consumer.errors import ConsumerError, SettingsError, StoreUnavailable, WritesRefused
from consumer.stores.redis import RedisStore, calls, connect
from consumer.stores.redis.buckets import bucket_of
from consumer.stores.redis.faults import settings_fault, store_fault
from consumer.testing.contract.samples import BODY, Process, claim, end, landing, outgoing
from tests.integration.rediskit import Cluster, Server, cluster, needed, replica_of, server, until
from tests.proxy import Proxy


@pytest.fixture(scope="module", autouse=True)
def packages():
    needed()


@contextlib.asynccontextmanager
async def process(url: str):
    store = RedisStore(url, "shop")
    try:
        await store.migrate()
        await store.open()
        yield Process(store, await store.workers.open(600, "test"))
    finally:
        await store.close()


async def test_a_lost_reply_is_not_a_lost_key(primary: Server):
    """The driver repeats nothing by itself; the same turn again is answered as it was."""
    async with Proxy(primary.url) as proxy, process(proxy.url) as here, process(primary.url) as there:
        win = await here.win(claim("first"))
        settle = end(claim("first"), win.token, Kind.COMPLETE, result=b"r", outgoing=[outgoing("o")])
        wish = claim("next")
        proxy.lose = "replies"
        with pytest.raises(StoreUnavailable):
            await here.store.inbox.turn(here.worker, [settle], [wish])
        assert proxy.swallowed.is_set()
        before = await there.entry(wish)
        assert before.state is State.RUNNING, "the turn had happened"
        settled, answers = await here.store.inbox.turn(here.worker, [settle], [wish])
        assert settled == [Settled.OK]
        assert answers == [Won(before.token, 1)]
        assert await there.sent_out() == ["o"]
        assert await there.entry(wish) == before


async def test_a_server_that_forgot_the_scripts_is_told_them_again(primary: Server):
    async with process(primary.url) as here:
        await here.win(claim("a"))
        await primary.ask("SCRIPT", "FLUSH")
        assert (await here.win(claim("b"))).attempt == 1
        assert await here.store.arrivals.land([landing("c")])


async def test_a_full_server_refuses_whole_calls(primary: Server):
    async with process(primary.url) as here:
        win = await here.win(claim("running"))
        await primary.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await here.ask(claim("new"))
        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await here.store.arrivals.land([landing("landed")])
        await primary.ask("CONFIG", "SET", "maxmemory", "0")
        assert await here.seen(claim("new")) is None
        assert await here.seen(landing("landed")) is None
        await here.ended(claim("running"), win.token, Kind.COMPLETE)


async def test_a_primary_that_became_a_replica(primary: Server):
    """It may be one again: then nothing was lost that it had not lost itself."""
    with server() as other:
        async with process(primary.url) as here:
            await here.win(claim("before"))
            await replica_of(other, primary)
            # it has taken over what the other one holds, which is nothing
            with pytest.raises(StoreUnavailable, match="replica|lost"):
                await here.ask(claim("during"))
            with pytest.raises(StoreUnavailable):
                await here.store.arrivals.land([landing("during")])


async def test_a_silent_server_is_given_up(primary: Server, monkeypatch):
    async with process(primary.url) as here:
        monkeypatch.setattr(calls, "CALL_TIMEOUT", 0.5)
        primary.process.pause()
        try:
            with pytest.raises(StoreUnavailable, match="not answered"):
                await here.ask(claim("a"))
        finally:
            primary.process.resume()
        # what was asked for happened when it woke up, or not; asked again there is one answer
        monkeypatch.setattr(calls, "CALL_TIMEOUT", 20.0)
        assert (await here.win(claim("b"))).attempt == 1


async def test_a_reply_that_does_not_come_drops_its_connection(primary: Server, monkeypatch):
    """Else the next call would read the reply of this one."""
    monkeypatch.setattr(connect, "READ_TIMEOUT", 1.0)
    async with process(primary.url) as here:
        wish = claim("a")
        primary.process.pause()
        try:
            with pytest.raises(StoreUnavailable):
                await here.ask(wish)
        finally:
            primary.process.resume()
        await until(lambda: _alive(here))
        assert (await here.win(wish)).attempt == 1
        looked = await here.store.inbox.look([claim("unknown"), claim("a")])
        assert looked[0] is None
        assert looked[1] is not None


async def _alive(here: Process) -> bool:
    try:
        await here.store.operator.apps()
    except StoreUnavailable:
        return False
    return True


async def test_a_restart_is_got_over(primary: Server):
    async with process(primary.url) as here:
        await here.win(claim("a"))
        primary.kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await here.ask(claim("b"))
        primary.start()
        assert (await here.win(claim("b"))).attempt == 1


async def test_nobody_there():
    store = RedisStore("redis://127.0.0.1:1/0", "shop")
    with pytest.raises(StoreUnavailable):
        await store.open()
    await store.close()


async def test_a_wrong_password_is_a_setting(primary: Server):
    await primary.ask("CONFIG", "SET", "requirepass", "secret")
    place = primary.url.removeprefix("redis://")
    for url in (primary.url, f"redis://:hunter2@{place}"):
        store = RedisStore(url, "shop")
        with pytest.raises(SettingsError) as said:
            await store.open()
        assert "hunter2" not in str(said.value)
        await store.close()
    async with process(f"redis://:secret@{place}") as here:
        assert await here.win(claim())


# ------------------------------------------------------------------------------------------------------- clusters


@pytest.fixture
async def three():
    async with cluster() as made:
        yield made


async def test_a_node_of_a_cluster_is_not_a_server(three: Cluster):
    store = RedisStore(three.servers[0].url, "shop")
    with pytest.raises(SettingsError, match=r"redis\+cluster://"):
        await store.open()
    await store.close()


async def test_slots_may_move_while_claims_are_made(three: Cluster):
    """MOVED: the client learns where the bucket is now; the claim is made once."""
    async with process(three.url) as here:
        wishes = [claim(f"k-{number}") for number in range(64)]
        _, before = await here.store.inbox.turn(here.worker, [], wishes)
        source, target = three.servers[0], three.servers[1]
        ids = [(await one.ask("CLUSTER", "MYID")).decode() for one in (source, target)]
        moved = await _move_one_bucket(source, target, ids)
        assert moved
        _, after = await here.store.inbox.turn(here.worker, [], wishes)
        assert after == before


@pytest.mark.parametrize("first", ["what it knows of itself", "its entries"])
async def test_a_slot_that_has_moved_by_half_starts_nothing_twice(three: Cluster, first: str):
    """Keys move one by one. A script that looked for an entry where it is not (any more, or yet) would find it new."""
    async with process(three.url) as here:
        done = [claim(f"k-{number}") for number in range(64)]
        _, answers = await here.store.inbox.turn(here.worker, [], done)
        ends = [end(wish, answer.token, Kind.COMPLETE) for wish, answer in zip(done, answers, strict=True)]
        await here.store.inbox.turn(here.worker, ends, [])
        source, target = three.servers[0], three.servers[1]
        ids = [(await one.ask("CLUSTER", "MYID")).decode() for one in (source, target)]
        slot, mine = await _first_slot(source)
        entries = [key for key in mine if b"}:e:" in key]
        assert entries
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        moved = entries if first == "its entries" else [key for key in mine if key not in entries]
        await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)
        for key in done:
            with contextlib.suppress(StoreUnavailable):
                answer = await here.ask(claim(key.key))
                assert not isinstance(answer, Won), key.key
        await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *(set(mine) - set(moved)))
        for one in (target, source):
            await one.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        for key in done:
            assert (await here.held(claim(key.key))).state is State.DONE


async def _first_slot(source: Server) -> tuple[int, list[bytes]]:
    """Return the slot of the first bucket that is there, and its keys."""
    keys = [key async for key in _keys(source)]
    slot = await source.ask("CLUSTER", "KEYSLOT", min(keys))
    return slot, [key for key in keys if await source.ask("CLUSTER", "KEYSLOT", key) == slot]


async def _move_one_bucket(source: Server, target: Server, ids: list[str]) -> int:
    """Move the slot of the first bucket, keys and all, as an operator's resharding does."""
    slot, mine = await _first_slot(source)
    await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *mine)
    for one in (target, source):
        await one.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    return len(mine)


async def _keys(one: Server):
    async with one.client() as client:
        async for key in client.scan_iter("*"):
            yield key


async def test_a_part_of_a_cluster_may_be_away(three: Cluster):
    """Nothing is claimed while slots are uncovered; afterwards the same turn is answered."""
    async with process(three.url) as here:
        await here.store.arrivals.land([landing(f"d-{number}") for number in range(64)])
        wishes = [claim(f"k-{number}") for number in range(64)]
        three.servers[2].kill()
        with pytest.raises(StoreUnavailable):
            await here.store.inbox.turn(here.worker, [], wishes)
        three.servers[2].start()

        async def answered() -> bool:
            try:
                _, answers = await here.store.inbox.turn(here.worker, [], wishes)
            except StoreUnavailable:
                return False
            return all(answer == Won(answer.token, 1) for answer in answers if isinstance(answer, Won))

        await until(answered)
        assert len(await here.store.workers.claims(here.worker)) == 64


async def test_a_landing_that_was_left_behind_is_moved(three: Cluster):
    """The process died between a completion's commit and the landing in another bucket."""
    async with process(three.url) as here, process(three.url) as there:
        win = await here.win(claim("first"))
        home = bucket_of(claim("first").identity, 32)
        names = [f"next-{number}" for number in range(50)]
        away = [name for name in names if bucket_of(landing(name).identity, 32) != home]
        settle = end(claim("first"), win.token, Kind.COMPLETE, landings=[landing(name) for name in away])

        async def dies(*_args: object, **_more: object) -> None:
            raise asyncio.CancelledError

        from consumer.stores.redis import inbox

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inbox, "move", dies)
            with contextlib.suppress(asyncio.CancelledError):
                await here.settle(settle)
        assert (await there.entry(claim("first"))).state is State.DONE
        assert await there.seen(landing(away[0])) is None
        taken = []
        for _ in range(3):
            taken += await there.due(limit=100)
        assert {one.key.decode() for one in taken} == set(away)
        assert len(taken) == len(away)
        assert {one.message for one in taken} == {BODY}


# ------------------------------------------------------------------------------------------------- what errors mean


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (exceptions.ConnectionError("Connection reset by peer"), StoreUnavailable, "reset"),
        (exceptions.TimeoutError("Timeout reading from socket"), StoreUnavailable, "Timeout"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable, "loading"),
        (
            exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
            WritesRefused,
            "full",
        ),
        (
            exceptions.ReadOnlyError("You can't write against a read only replica."),
            WritesRefused,
            "replica",
        ),
        (exceptions.ClusterDownError("The cluster is down"), StoreUnavailable, "down"),
        (exceptions.MasterDownError("Link with MASTER is down"), StoreUnavailable, "MASTER"),
        (exceptions.MovedError("3999 127.0.0.1:6381"), StoreUnavailable, "3999"),
        (exceptions.AskError("3999 127.0.0.1:6381"), StoreUnavailable, "3999"),
        (
            exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
            StoreUnavailable,
            "slot",
        ),
        (exceptions.SlotNotCoveredError('Slot "7" not covered by the cluster.'), StoreUnavailable, "covered"),
        (exceptions.MaxConnectionsError("Too many connections"), StoreUnavailable, "connections"),
        (
            exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
            StoreUnavailable,
            "disk",
        ),
        (
            exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
            StoreUnavailable,
            "replicas",
        ),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), StoreUnavailable, "script"),
        (exceptions.ResponseError("HISTORY the store is empty"), StoreUnavailable, "consumer accept-history"),
        (exceptions.ResponseError("CLOSED"), StoreUnavailable, "closed"),
        (exceptions.NoPermissionError("this user has no permissions"), StoreUnavailable, "ACL"),
        (
            exceptions.ResponseError("ERR user_script:12: attempt to index nil"),
            ConsumerError,
            "refuses a command",
        ),
        (OSError("no route to host"), StoreUnavailable, "route"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_errors_mean(error, kind, words):
    fault = store_fault(error)
    assert type(fault).__mro__[: type(fault).__mro__.index(ConsumerError) + 1].count(kind) == 1
    assert words in str(fault)
    if kind is ConsumerError:
        assert not isinstance(fault, StoreUnavailable), "waiting would not mend it"


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("invalid username-password pair or user is disabled."),
        exceptions.NoPermissionError("this user has no permissions"),
        exceptions.MovedError("3999 127.0.0.1:6381"),
        exceptions.ResponseError("DB index is out of range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_waiting_mends_at_the_start(error):
    assert settings_fault(error)


def test_other_errors_are_waited_for_at_the_start():
    assert settings_fault(exceptions.BusyLoadingError("Redis is loading")) is None
    assert settings_fault(exceptions.ConnectionError("refused")) is None
