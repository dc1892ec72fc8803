"""URLs of Redis stores, and what is refused at the start."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest

from consumer.errors import SchemaMismatch, SettingsError, StoreUnavailable
from consumer.ports.store import Store
from consumer.stores import KeepsHistory, open_store
from consumer.stores.memory import MemoryStore
from consumer.stores.redis import CAPABILITIES, CLUSTER_CAPABILITIES, RedisStore
from consumer.stores.redis.address import parse
from consumer.stores.redis.buckets import MOST, bucket_of_number, join, prefixes, split
from consumer.testing.contract.samples import Process, claim
from tests.integration.rediskit import Server, needed, replica_of, server, until
from tests.services import Redis
from tests.services.base import HOST, answers, folder_for, free_port
from tests.services.process import LocalProcess

# ------------------------------------------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "database", "service"),
    [
        ("redis://host", "redis", (("host", 6379),), 0, ""),
        ("redis://user:pw@host:7000/3", "redis", (("host", 7000),), 3, ""),
        ("rediss://[::1]:7000", "redis", (("::1", 7000),), 0, ""),
        ("REDIS+sentinel://a,b:1/shop/2", "sentinel", (("a", 26379), ("b", 1)), 2, "shop"),
        ("redis+cluster://a:1,b:2,c", "cluster", (("a", 1), ("b", 2), ("c", 6379)), 0, ""),
    ],
)
def test_what_a_url_says(url, kind, hosts, database, service):
    address = parse(url)
    assert (address.kind, address.hosts, address.database, address.service) == (
        kind,
        hosts,
        database,
        service,
    )
    assert not address.weak
    assert address.options.get("ssl", False) == url.startswith("rediss")


def test_what_stands_in_its_query():
    address = parse("rediss+sentinel://u:p%40ss@a/shop?weak=yes&ssl_ca_certs=/ca.pem&sentinel_password=other")
    assert address.weak
    assert address.options == {"ssl": True, "ssl_ca_certs": "/ca.pem", "username": "u", "password": "p@ss"}
    assert address.sentinel_options == {"ssl": True, "ssl_ca_certs": "/ca.pem", "password": "other"}
    assert "other" not in address.shown
    assert "p%40ss" not in address.shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://", "a host is missing"),
        ("redis://host:port", "is not a port"),
        ("redis://host:70000", "is not a port"),
        ("redis://host/x", "is not the number of a database"),
        ("redis://a,b", "redis+sentinel://"),
        ("redis+sentinel://a", "the name of the primary is missing"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis+unix://a", "use redis://"),
        ("redis://host?wake=yes", "'wake'"),
        ("redis://host?ssl_ca_certs=x", "rediss://"),
        ("redis://:hunter2@host:port", "is not a port"),
    ],
)
def test_urls_that_cannot_be_read(url, words):
    with pytest.raises(SettingsError) as refused:
        open_store(url, "shop")
    assert words in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_capabilities_are_known_before_a_connection():
    assert open_store("redis://host", "shop").capabilities == CAPABILITIES
    assert open_store("redis+cluster://host", "shop").capabilities == CLUSTER_CAPABILITIES
    assert not CAPABILITIES.transactions
    assert "duplicates are possible" in CAPABILITIES.weakness
    assert isinstance(open_store("redis://host", "shop"), KeepsHistory)
    assert not isinstance(MemoryStore("shop"), KeepsHistory)


def test_buckets_share_the_slots_and_numbers_are_never_equal():
    """Frozen: what is stored was stored by them."""
    assert prefixes(1) == ("consumer:{c0}:",)
    many = prefixes(32)
    assert len(set(many)) == 32 <= MOST
    assert (many[0], many[31]) == ("consumer:{c113}:", "consumer:{c53}:")
    numbers = {join(drawn, bucket) for drawn in range(1, 50) for bucket in range(32)}
    assert len(numbers) == 49 * 32
    assert all(bucket_of_number(join(7, bucket)) == bucket for bucket in range(32))
    assert split(join(7, 3), 3) == 7
    assert split(join(7, 3), 4) == -1
    assert (join(0, 3), split(0, 3), split(-5, 3)) == (0, 0, -1)


# ------------------------------------------------------------------------------------------------- weak settings


@pytest.fixture(scope="module")
def primary():
    needed()
    with server() as made:
        yield made


@contextlib.asynccontextmanager
async def store_at(url: str):
    store = RedisStore(url, "shop")
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
        ("appendonly", "no", "yes"),
        ("appendfsync", "no", "everysec"),
    ],
)
async def test_a_weak_setting_is_refused_unless_it_is_permitted(primary: Server, name, value, good):
    await primary.ask("CONFIG", "SET", name, value)
    try:
        async with store_at(primary.url) as store:
            for verb in (store.migrate, store.open):
                with pytest.raises(SettingsError) as refused:
                    await verb()
                assert f"{name} is {value}" in str(refused.value)
                assert good in str(refused.value)
                assert "?weak=yes" in str(refused.value)
        async with store_at(primary.url + "?weak=yes") as store:
            await store.migrate()
            await store.open()
            assert f"{name} is {value}" in store.capabilities.weakness
    finally:
        await primary.ask("CONFIG", "SET", name, good)
    async with store_at(primary.url + "?weak=yes") as store:
        await store.migrate()
        await store.open()
        assert store.capabilities == CAPABILITIES


async def test_settings_that_a_service_hides_are_vouched_for(primary: Server):
    await primary.ask("ACL", "SETUSER", "managed", "on", ">pw", "~*", "&*", "+@all", "-config")
    url = f"redis://managed:pw@{HOST}:{primary.port}/0"
    async with store_at(url) as store:
        with pytest.raises(SettingsError, match="appendfsync is hidden"):
            await store.open()
    async with store_at(url + "?weak=yes") as store:
        await store.migrate()
        await store.open()
        assert "appendfsync is hidden" in store.capabilities.weakness


async def test_an_empty_server_is_not_a_store(primary: Server):
    async with store_at(primary.url.replace("/0", "/7")) as store:
        with pytest.raises(SchemaMismatch, match="consumer migrate"):
            await store.open()
        assert await store.migrate(dry_run=True) == ["redis 1: the store's mark in 1 bucket"]
        with pytest.raises(SchemaMismatch):
            await store.open()
        assert await store.migrate() == ["redis 1: the store's mark in 1 bucket"]
        assert await store.migrate() == []
        await store.open()


async def test_a_store_of_another_version_is_refused(primary: Server):
    async with store_at(primary.url.replace("/0", "/8")) as store:
        await store.migrate()
        async with primary.client() as client:
            await client.execute_command("SELECT", 8)
            await client.execute_command("HSET", "consumer:{c0}:meta", "version", 2)
        with pytest.raises(SchemaMismatch, match="version 2"):
            await store.open()


async def test_a_replica_is_refused(primary: Server):
    with server() as replica:
        await replica_of(primary, replica)
        async with store_at(replica.url) as store:
            with pytest.raises(SettingsError, match="role is slave"):
                await store.open()


async def test_no_such_database(primary: Server):
    async with store_at(primary.url.replace("/0", "/99")) as store:
        with pytest.raises(SettingsError):
            await store.open()


# ------------------------------------------------------------------------------------------------------ Sentinels


class Sentinel:
    """One Sentinel that knows one primary; it counts as a majority."""

    def __init__(self, primary: Server) -> None:
        self.port = free_port()
        folder = folder_for("sentinel")
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind {HOST}\ndir {folder}\nsentinel monitor shop {HOST} {primary.port} 1\n"
            "sentinel down-after-milliseconds shop 1500\nsentinel failover-timeout shop 3000\n"
        )
        command = [str(Redis.packages()), str(file), "--sentinel"]
        self.process = LocalProcess(
            "a Sentinel of this test", command, folder, lambda: answers(self.port, b"PING\r\n", b"+PONG")
        )
        self.url = f"redis+sentinel://{HOST}:{self.port}/shop/0"


async def _through(sentinel: Sentinel, store: Store) -> bool:
    try:
        await store.open()
    except (StoreUnavailable, SettingsError):
        return False
    return True


async def test_through_a_sentinel_and_its_fail_over():
    """The promoted replica is found, and refuses claims until somebody answers for it."""
    with server() as first, server() as second:
        async with store_at(first.url) as direct:
            await direct.migrate()
        await replica_of(first, second)
        sentinel = Sentinel(first)
        sentinel.process.start()
        try:
            async with store_at(sentinel.url) as store:
                await store.open()
                here = Process(store, await store.workers.open(600, "test"))
                assert (await here.win(claim("before"))).attempt == 1

                async def knows_the_replica() -> bool:
                    async with server_client(sentinel.port) as client:
                        told = await client.execute_command("SENTINEL", "REPLICAS", "shop")
                    return bool(told)

                await until(knows_the_replica)
                first.kill()

                async def refused() -> bool:
                    try:
                        await here.ask(claim("after"))
                    except StoreUnavailable as fault:
                        return "accept-history" in str(fault)
                    return False

                await until(refused, limit=30)
                assert await store.accept_history("a rehearsal")
                assert (await here.win(claim("after"))).attempt == 1
        finally:
            sentinel.process.close()


@contextlib.asynccontextmanager
async def server_client(port: int):
    import redis.asyncio as aioredis

    async with aioredis.Redis(host=HOST, port=port) as client:
        yield client


# ----------------------------------------------------------------------------------------------- the command line


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from consumer.cli.accept_history import accept_history; accept_history(sys.argv[1:])"
    import sys

    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
        timeout=60,
    )


async def test_accept_history_as_a_command(primary: Server):
    async with store_at(primary.url.replace("/0", "/9")) as store:
        await store.migrate()
        await store.open()
        here = Process(store, await store.workers.open(600, "test"))
        async with server_client(primary.port) as client:
            await client.execute_command("SELECT", 9)
            await client.execute_command("HSET", "consumer:{c0}:meta", "broken", "because")
        with pytest.raises(StoreUnavailable, match="because"):
            await here.ask(claim())
        url = primary.url.replace("/0", "/9")
        done = run("--store", url, "--reason", "compared")
        assert (done.returncode, done.stdout) == (0, "accepted: because\n"), done.stderr
        assert (await here.win(claim())).attempt == 1
        again = run("--store", url, "--reason", "compared")
        assert (again.returncode, again.stdout.partition(";")[0]) == (0, "nothing was wrong")
    assert run("--store", url, "--reason", " ").returncode == 2
    other = run("--store", "memory:", "--reason", "x")
    assert other.returncode == 78
    assert "only Redis" in other.stderr
    assert run("--store", "redis://127.0.0.1:1", "--reason", "x").returncode == 69
