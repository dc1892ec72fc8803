"""TLS and passwords against a real PostgreSQL; what can never work says why, in one line, and is not tried again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import trustme

from consumer.errors import SettingsError, StoreUnavailable
from consumer.stores import open_store
from tests.services import Postgres, Unavailable, required
from tests.services.base import HOST, folder_for, free_port

pytestmark = pytest.mark.usefixtures("nothing_left_open")

PASSWORD = "pass-4711"
RULES = """
host     postgres  postgres  127.0.0.1/32  trust
hostssl  shop      shop      127.0.0.1/32  scram-sha-256
hostssl  shop      partner   127.0.0.1/32  trust  clientcert=verify-ca
host     shop      open      127.0.0.1/32  scram-sha-256
"""


@dataclass(frozen=True)
class Encrypted:
    """A PostgreSQL with ssl = on, and the files for its clients."""

    server: Postgres
    folder: Path
    port: int

    def url(self, *query: str, user: str = f"shop:{PASSWORD}", port: int | None = None) -> str:
        """`query`: `name=value`; a value that ends with `.pem` is a file of our folder, unless it begins with a slash."""
        pairs = [each.partition("=") for each in query]
        named = [(n, str(self.folder / value) if value.endswith(".pem") else value) for n, _, value in pairs]
        said = "&".join(f"{name}={value}" for name, value in named)
        return f"postgresql://{user}@{HOST}:{port or self.port}/shop?{said}"


async def encrypt(server: Postgres, folder: Path) -> None:
    """Give a server that runs its certificate, its roles and its rules; they are in force after a restart."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    authority.issue_cert("partner").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    connection = await asyncpg.connect(server.url)
    try:
        data = Path(await connection.fetchval("show data_directory"))
        owner = await asyncio.to_thread(data.stat)  # the server's own user
        for name, content in (
            ("server.pem", authority.issue_cert(HOST).private_key_and_cert_chain_pem.bytes()),
            ("root.pem", authority.cert_pem.bytes()),
            ("pg_hba.conf", RULES.encode()),
        ):
            file = data / name
            file.write_bytes(content)
            file.chmod(0o600)  # PostgreSQL takes no key that others may read
            os.chown(file, owner.st_uid, owner.st_gid)
        for setting, value in (("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.pem")):
            await connection.execute(f"alter system set {setting} = '{value}'")
        await connection.execute("alter system set ssl_ca_file = 'root.pem'")
        await connection.execute("alter system set ssl = on")
        for role in ("shop", "partner", "open"):
            await connection.execute(f"create role {role} login superuser password '{PASSWORD}'")
        await connection.execute("create database shop owner shop")
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Encrypted]:
    try:
        server = Postgres.on_this_machine()  # one of our own: the run's has no TLS, and must not get it
        server.start()
    except Unavailable as error:
        if required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    folder = folder_for("postgres-tls")
    try:
        asyncio.run(encrypt(server, folder))
        server.stop()
        server.start()
        yield Encrypted(server, folder, urlsplit(server.url).port or 0)
    finally:
        server.server.close()


async def opened(url: str) -> None:
    store = open_store(url, "shop")
    try:
        await store.migrate()
        await store.open()
    finally:
        await store.close()


async def refusal(url: str) -> str:
    with pytest.raises(SettingsError) as error:
        await opened(url)
    text = str(error.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert "8472" not in text
    return text


VERIFIED = ("sslmode=verify-full", "sslrootcert=ca.pem")


async def test_a_server_that_is_verified(encrypted: Encrypted) -> None:
    await opened(encrypted.url(*VERIFIED))
    connection = await asyncpg.connect(encrypted.url(*VERIFIED))
    try:
        ask = "select version from pg_stat_ssl where pid = pg_backend_pid()"
        assert str(await connection.fetchval(ask)).startswith("TLS")
    finally:
        await connection.close()


async def test_a_certificate_of_our_own(encrypted: Encrypted) -> None:
    own = (*VERIFIED, "sslcert=client.pem", "sslkey=client.pem")
    await opened(encrypted.url(*own, user="partner"))
    assert "requires a valid client certificate" in await refusal(encrypted.url(*VERIFIED, user="partner"))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (["sslmode=verify-full", "sslrootcert=other.pem"], "the server's certificate is not accepted"),
        (["sslmode=verify-ca", "sslrootcert=other.pem"], "check the host's name and sslrootcert"),
        (
            ["sslmode=verify-full", "sslrootcert=/nowhere/ca.pem"],
            "sslrootcert='/nowhere/ca.pem' cannot be read",
        ),
        (["sslmode=verify-full", "sslrootcert=/dev/null"], "sslrootcert='/dev/null' holds no certificates"),
        ([*VERIFIED, "sslcert=ca.pem", "sslkey=ca.pem"], "no certificate with its key"),
        (["sslmode=verify"], "`sslmode` parameter must be one of"),
        (["sslmode=disable"], "no encryption"),
    ],
)
async def test_tls_that_does_not_fit(encrypted: Encrypted, query: list[str], says: str) -> None:
    assert says in await refusal(encrypted.url(*query))


@pytest.mark.parametrize("user", ["shop:wrong-8472", "shop", "nobody:wrong-8472"])
async def test_passwords_that_do_not_fit(encrypted: Encrypted, user: str) -> None:
    said = await refusal(encrypted.url(*VERIFIED, user=user))
    assert "password authentication failed" in said or "no pg_hba.conf entry" in said


async def test_the_name_in_the_certificate_is_not_the_host_s(encrypted: Encrypted) -> None:
    url = encrypted.url(*VERIFIED).replace(f"@{HOST}:", "@localhost:")
    assert "the server's certificate is not accepted" in await refusal(url)
    await opened(url.replace("verify-full", "verify-ca"))


async def test_a_server_without_tls(encrypted: Encrypted) -> None:
    await restarted(encrypted, "off")
    try:
        said = await refusal(encrypted.url(*VERIFIED, user=f"open:{PASSWORD}"))
        assert "the server does not speak TLS (ssl = off there)" in said
    finally:
        await restarted(encrypted, "on")


async def restarted(encrypted: Encrypted, ssl: str) -> None:
    await encrypted.server.execute(f"alter system set ssl = {ssl}")
    await asyncio.to_thread(encrypted.server.stop)
    await asyncio.to_thread(encrypted.server.start)


async def test_a_server_that_is_away_is_no_matter_of_settings(encrypted: Encrypted) -> None:
    with pytest.raises(StoreUnavailable):
        await opened(encrypted.url(*VERIFIED, port=free_port()))


async def run(url: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumer", "run", "handlers.app:app",
        env=os.environ | {"CONSUMER_STORE": url, "CONSUMER_BROKER": "embedded:"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize(
    ("query", "user", "says"),
    [
        (["sslmode=verify-full", "sslrootcert=other.pem"], f"shop:{PASSWORD}", "certificate is not accepted"),
        (list(VERIFIED), "shop:wrong-8472", "password authentication failed"),
    ],
)
async def test_the_command_ends_with_78(encrypted: Encrypted, query: list[str], user: str, says: str) -> None:
    code, said = await run(encrypted.url(*query, user=user))
    assert code == 78, said
    assert says in said
    assert "Traceback" not in said
    assert PASSWORD not in said
    assert "8472" not in said
