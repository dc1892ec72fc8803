"""What `open` and `migrate` make of the file that they find."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sqlite3

import pytest

from consumer.entry import State
from consumer.errors import SchemaMismatch, SettingsError, StoreUnavailable
from consumer.stores.sqlite import SqliteStore, place
from consumer.stores.sqlite.schema import STEPS, VERSION
from consumer.testing.contract.samples import landing


@contextlib.asynccontextmanager
async def handle(path, **options):
    store = SqliteStore(str(path), "shop", **options)
    try:
        yield store
    finally:
        await store.close()


def raw(path, sql, *args):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, args).fetchall()


def remove(path):
    for suffix in ("", "-wal", "-shm"):
        pathlib.Path(f"{path}{suffix}").unlink()


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_no_file_is_no_store(path):
    with pytest.raises(SettingsError, match="a file is needed"):
        SqliteStore(path, "shop")


async def test_a_missing_directory(tmp_path):
    async with handle(tmp_path / "none" / "shop.db") as store:
        for verb in (store.open, store.migrate):
            with pytest.raises(SettingsError, match=r"none does not exist; make it, or"):
                await verb()


async def test_a_directory_is_no_file(tmp_path):
    async with handle(tmp_path) as store:
        with pytest.raises(SettingsError, match="this is not a file; name one, as in"):
            await store.open()


async def test_a_missing_file_is_not_made_by_looking(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        with pytest.raises(SchemaMismatch, match="does not exist; run `consumer migrate`"):
            await store.open()
        assert await store.migrate(dry_run=True) == [name for name, _ in STEPS]
        await store.open(check=False)
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await store.arrivals.land([landing()])
    assert not (tmp_path / "shop.db").exists()


async def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "shop.db").write_bytes(b"Dear diary, " * 1000)
    async with handle(tmp_path / "shop.db") as store:
        with pytest.raises(SettingsError, match="is not an SQLite database"):
            await store.open()
        with pytest.raises(SettingsError, match="is not an SQLite database"):
            await store.migrate()


async def test_somebody_elses_database_is_left_as_it_is(tmp_path):
    path = tmp_path / "shop.db"
    raw(path, "create table theirs (n)")
    before = path.read_bytes()
    async with handle(path) as store:
        with pytest.raises(SchemaMismatch, match="the tables are not there; run `consumer migrate`"):
            await store.open()
        assert await store.migrate(dry_run=True)
    assert path.read_bytes() == before


async def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        access = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: "shop.db" not in str(path) and access(path, mode)
        )
        with pytest.raises(SettingsError, match=r"shop\.db cannot be written by this user"):
            await store.open()


async def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "_mounted_as", lambda _: "nfs4")
    async with handle(tmp_path / "shop.db") as store:
        with pytest.raises(SettingsError, match=r"network file system \(nfs4\).*postgresql"):
            await store.migrate()


@pytest.mark.skipif(not pathlib.Path("/proc/self/mounts").exists(), reason="only Linux tells what is mounted")
def test_mounts_are_read(tmp_path):
    assert place._mounted_as("/proc/self") == "proc"
    assert place._mounted_as(str(tmp_path)) not in {"", "proc"}


@pytest.mark.parametrize(
    ("seen", "text"), [(VERSION + 1, "upgrade the package"), (0, "run `consumer migrate`")]
)
async def test_tables_of_another_version_are_refused(tmp_path, seen, text):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        raw(tmp_path / "shop.db", "update consumer_schema set version = ? where version = ?", seen, VERSION)
        raw(tmp_path / "shop.db", "delete from consumer_schema where version > 0 and version < ?", VERSION)
        with pytest.raises(SchemaMismatch, match=text):
            await store.open()


async def test_newer_tables_are_not_migrated(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        raw(tmp_path / "shop.db", "update consumer_schema set version = 99 where version = ?", VERSION)
        for dry_run in (True, False):
            with pytest.raises(SchemaMismatch, match=f"version 99, this package knows {VERSION}"):
                await store.migrate(["create table own (n)"], dry_run=dry_run)
    assert raw(tmp_path / "shop.db", "select name from sqlite_master where name = 'own'") == []


@pytest.mark.parametrize("done", range(1, VERSION))
async def test_a_file_of_any_earlier_version_goes_on(tmp_path, done):
    """The steps that are missing are done on tables that hold something."""
    path = tmp_path / "shop.db"
    raw(path, "create table consumer_schema (version integer primary key)")
    for number, (_, statements) in enumerate(STEPS[:done], 1):
        for statement in statements:
            raw(path, statement)
        raw(path, "insert into consumer_schema (version) values (?)", number)
    raw(
        path,
        "insert into consumer_inbox (id, token, state, on_lapse, attempts, budget, created_at, due_at, app, tenant,"
        " handler, key, fingerprint, message) values (?, 1, 3, 0, 1, 5, 1, 1, 'shop', 'public', ?, ?, ?, ?)",
        *(landing().identity, landing().handler, landing().key, landing().fingerprint, landing().message),
    )
    async with handle(path) as store:
        assert await store.migrate() == [name for name, _ in STEPS[done:]]
        await store.open()
        [taken] = await store.arrivals.due(await store.workers.open(600, "test"), [landing().handler], 10)
        assert (taken.identity, taken.attempt) == (landing().identity, 2)


async def test_migrating_twice_at_once(tmp_path):
    own = ["create table if not exists ledger (n)"]
    async with contextlib.AsyncExitStack() as handles:
        stores = [await handles.enter_async_context(handle(tmp_path / "shop.db")) for _ in range(4)]
        done = await asyncio.gather(*(store.migrate(own) for store in stores))
        assert sorted(map(len, done)) == [0, 0, 0, len(STEPS)]
        await stores[0].open()
    assert raw(tmp_path / "shop.db", "select max(version) from consumer_schema") == [(VERSION,)]


async def test_an_own_statement_that_fails_undoes_the_migration(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        with pytest.raises(SettingsError, match="'create tabel ledger' fails: near \"tabel\""):
            await store.migrate(["create table own (n)", "create  tabel\n ledger"])
    assert raw(tmp_path / "shop.db", "select name from sqlite_master") == []


async def test_commits_survive_a_power_cut(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        group = await store.groups.open()
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = [(await group.fetch(f"pragma {name}", []))[0][0] for name in pragmas]
        await group.rollback()
    assert values == ["wal", 2, 1]


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_removed_is_not_gone_on_with(tmp_path, replaced):
    path = tmp_path / "shop.db"
    async with handle(path) as store:
        await store.migrate()
        await store.arrivals.land([landing("before")])
        assert len(await store.operator.entries()) == 1
        remove(path)
        if replaced:
            async with handle(path) as other:
                await other.migrate()
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.arrivals.land([landing("after")])
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await store.operator.entries()
        if replaced:
            await store.arrivals.land([landing("later")])
            assert [entry.key for entry in await store.operator.entries()] == [b"later"]


async def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with handle("shop.db") as store:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        await store.migrate()
    assert (tmp_path / "shop.db").exists()


async def test_a_closed_handle_says_so(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        await store.close()
        await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.arrivals.land([landing()])


async def test_a_reason_that_is_no_unicode_is_kept_readable(tmp_path):
    async with handle(tmp_path / "shop.db") as store:
        await store.migrate()
        await store.arrivals.land([landing(state=State.DEAD, reason="no such file: caf\udce9 \0")])
        [entry] = await store.operator.entries()
    assert entry.reason == "no such file: caf? \0"
