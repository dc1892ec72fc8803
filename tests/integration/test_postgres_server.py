"""What is asked of the server and of its tables before they are trusted."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from consumer.entry import Kind, Landed, OnLapse, State
from consumer.errors import SchemaMismatch, SettingsError, StoreUnavailable
from consumer.stores.postgres import PostgresStore
from consumer.stores.postgres.schema import STEPS, VERSION
from consumer.testing.contract.samples import claim, end, landing, outgoing

OF_TOMORROW = f"insert into consumer_schema (version, step) values ({VERSION + 1}, 'of tomorrow')"


async def run(url, sql):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def name_of(url):
    return urlsplit(url).path.removeprefix("/")


async def refused(store, error, text):
    with pytest.raises(error, match=text):
        await store.open()
    await store.close()


# ---------------------------------------------------------------------------------------------------------- the server


async def test_a_read_only_server_is_refused(postgres_url):
    await PostgresStore(postgres_url, "shop").migrate()
    await run(
        postgres_url, f'alter database "{name_of(postgres_url)}" set default_transaction_read_only = on'
    )
    await refused(PostgresStore(postgres_url, "shop"), SettingsError, "read-only")


async def test_a_server_that_forgets_commits_is_refused_unless_the_url_says_weak(postgres_url):
    await PostgresStore(postgres_url, "shop").migrate()
    await run(postgres_url, f'alter database "{name_of(postgres_url)}" set synchronous_commit = off')
    await refused(PostgresStore(postgres_url, "shop"), SettingsError, "synchronous_commit")
    weak = PostgresStore(f"{postgres_url}?weak=yes", "shop")
    await weak.open()
    assert "synchronous_commit off" in weak.capabilities.weakness
    await weak.close()


async def test_limits_that_are_not_in_force_are_refused(postgres_url, monkeypatch):
    """As behind a pooler that drops them."""
    connect = asyncpg.connect

    def dropped(url, *, server_settings, **more):
        return connect(url, **more)

    await PostgresStore(postgres_url, "shop").migrate()
    monkeypatch.setattr(asyncpg, "connect", dropped)
    await refused(PostgresStore(postgres_url, "shop"), SettingsError, "pooler")


async def test_an_unknown_database_is_a_setting_and_its_text_holds_no_password(postgres_url):
    parts = urlsplit(postgres_url)
    login, _, place = parts.netloc.rpartition("@")
    user = login.partition(":")[0] or "postgres"
    url = urlunsplit(parts._replace(netloc=f"{user}:s3cret@{place}", path="/nowhere"))
    store = PostgresStore(url, "shop")
    with pytest.raises(SettingsError, match="nowhere") as caught:
        await store.open()
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_an_unknown_parameter_is_a_setting(postgres_url):
    await refused(PostgresStore(f"{postgres_url}?no_such_thing=1", "shop"), SettingsError, "no_such_thing")


async def test_nobody_there(postgres_url, unused_port):
    parts = urlsplit(postgres_url)
    url = urlunsplit(parts._replace(netloc=f"postgres@127.0.0.1:{unused_port}"))
    await refused(PostgresStore(url, "shop"), StoreUnavailable, "127.0.0.1")


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def test_a_server_that_comes_back_is_used_again(postgres, postgres_url):
    store = PostgresStore(postgres_url, "shop")
    await store.migrate()
    await store.open()
    worker = await store.workers.open(600, "test")
    postgres.stop()
    with pytest.raises(StoreUnavailable):
        await store.workers.beat(worker)
    postgres.start()
    assert await store.workers.beat(worker)
    group = await store.groups.open()
    await group.rollback()
    await store.close()


# ---------------------------------------------------------------------------------------------------------- the tables


async def test_tables_that_are_not_there(postgres_url):
    await refused(PostgresStore(postgres_url, "shop"), SchemaMismatch, "consumer migrate")


@pytest.mark.parametrize("by", [-1, 1])
async def test_older_and_newer_tables_are_refused(postgres_url, by):
    await PostgresStore(postgres_url, "shop").migrate()
    change = {-1: f"delete from consumer_schema where version = {VERSION}", 1: OF_TOMORROW}[by]
    await run(postgres_url, change)
    await refused(
        PostgresStore(postgres_url, "shop"), SchemaMismatch, rf"version {VERSION + by}\b.*{VERSION}\b"
    )


async def test_a_newer_schema_is_not_migrated(postgres_url):
    store = PostgresStore(postgres_url, "shop")
    await store.migrate()
    await run(postgres_url, OF_TOMORROW)
    with pytest.raises(SchemaMismatch, match="newer"):
        await store.migrate()


async def test_two_migrations_at_once(postgres_url):
    stores = [PostgresStore(postgres_url, "shop") for _ in range(3)]
    own = ["create table if not exists ledger (id int)"]
    done = await asyncio.gather(*(store.migrate(own) for store in stores))
    assert sorted(map(len, done)) == [0, 0, len(STEPS)]
    for store in stores:
        await store.open()
        await store.close()


async def test_a_dry_run_changes_nothing(postgres_url):
    store = PostgresStore(postgres_url, "shop")
    assert await store.migrate(["create table ledger (id int)"], dry_run=True) == [name for name, _ in STEPS]
    await refused(store, SchemaMismatch, "no tables")


async def test_a_failing_statement_of_the_application_undoes_the_migration(postgres_url):
    store = PostgresStore(postgres_url, "shop")
    with pytest.raises(SettingsError, match="create tabel"):
        await store.migrate(["create tabel ledger (id int)"])
    assert await store.migrate(dry_run=True) == [name for name, _ in STEPS]


# ------------------------------------------------------------------------------------------- what only Postgres refuses


async def test_texts_that_postgres_refuses_are_kept_as_well_as_they_can_be(store):
    worker = await store.workers.open(600, "test")
    wish = claim(b"\x00\xff")
    _, [won] = await store.inbox.turn(worker, [], [wish])
    settle = end(wish, won.token, Kind.BURY, reason="nul \x00, surrogate \udc80")
    await store.inbox.turn(worker, [settle], [])
    [entry] = await store.operator.find(b"\x00\xff")
    assert entry.reason == "nul \u2400, surrogate ?"
    assert await store.arrivals.land([landing(tenant="a\x00b")]) == [Landed.NEW]


async def test_an_ordering_key_may_be_any_text(store):
    worker = await store.workers.open(600, "test")
    group = await store.groups.open()
    await group.claim([claim()])
    await group.fill([], [outgoing("a", "nul \x00 ü")], [])
    await group.seal()
    await group.commit()
    [pending] = await store.outbox.take(worker, 10)
    assert pending.outgoing.ordering_key == "nul \x00 ü"


async def test_a_delay_beyond_all_calendars_is_far_away_and_no_fault(store):
    worker = await store.workers.open(600, "test")
    _, [won] = await store.inbox.turn(worker, [], [claim()])
    await store.inbox.turn(worker, [end(claim(), won.token, Kind.RETRY, delay=1e18)], [])
    [entry] = await store.operator.find(claim().key)
    assert entry.state is State.WAITING


async def test_a_claim_and_a_closing_take_turns(store, postgres_url):
    """While a claim of a worker is under way nobody closes it; a beat is not held up."""
    worker = await store.workers.open(600, "test")
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("select id from consumer_workers where id = $1 for key share", worker)
        await other.execute("update consumer_workers set ttl = 0, beat_at = beat_at - interval '1 day'")
    async with other.transaction():
        await other.execute("select id from consumer_workers where id = $1 for key share", worker)
        assert await store.workers.lapse() == []
        assert await store.workers.beat(worker)
    await other.close()


async def test_the_joins_of_a_turn_use_the_primary_key(store):
    """Also on a table that the planner was told is tiny."""
    worker = await store.workers.open(600, "test")

    async def plan(connection):
        from consumer.stores.postgres.inbox import _sql

        await connection.execute("analyze consumer_inbox")
        keys = [claim(f"k-{n}") for n in range(300)]
        _, answers = await store.inbox.turn(worker, [], keys)
        rows = await connection.fetch(
            "explain " + _sql(settles=True, sends=False, claims=False),
            worker,
            "shop",
            [key.identity.hex() for key in keys],
            [answer.token for answer in answers],
            [None for _ in keys],
        )
        return "\n".join(row[0] for row in rows)

    assert "consumer_inbox_pkey" in await store._pool.call(plan)


@pytest.mark.parametrize("same", [True, False])
async def test_columns_that_are_sent_once_reach_every_row(store, same):
    """Values that all claims share are sent once; values that they do not share must not leak from the first."""
    worker = await store.workers.open(600, "test")
    wishes = [
        claim(
            f"k-{n}",
            tenant="t" if same else f"t-{n}",
            handler="pay" if same else f"h-{n}",
            budget=7 if same else 7 + n,
            on_lapse=OnLapse.WAITING if same else OnLapse(n % 2),
            message=None if same or n == 1 else b"bytes",
        )
        for n in range(3)
    ]
    await store.inbox.turn(worker, [], wishes)
    group = await store.groups.open()
    columns = "tenant, handler, key, budget, on_lapse, message"
    rows = await group.fetch(f"select {columns} from consumer_inbox order by key", [])
    await group.rollback()
    assert [tuple(row) for row in rows] == [
        (wish.tenant, wish.handler, wish.key, wish.budget, wish.on_lapse, wish.message) for wish in wishes
    ]
