"""TLS and passwords against a real Redis; what can never work says why, in one line, and is not tried again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from consumer.errors import SettingsError, StoreUnavailable
from consumer.stores.redis import RedisStore
from consumer.stores.redis.address import parse
from consumer.stores.redis.probe import hopeless
from tests.services import Redis, Unavailable, required
from tests.services.base import HOST, answers, folder_for, free_port
from tests.services.process import LocalProcess

pytestmark = pytest.mark.usefixtures("nothing_left_open")

PASSWORD = "pass-4711"


@dataclass(frozen=True)
class Encrypted:
    """A Redis with a password: one port in plain text, one with TLS; `mutual` also asks for a certificate of ours."""

    folder: Path
    plain: int
    tls: int
    mutual: bool

    def url(self, *files: str, password: str = f":{PASSWORD}@", scheme: str = "rediss") -> str:
        """`files`: `name=file`, a file of our folder unless it begins with a slash."""
        named = [(name, path) for name, _, path in (each.partition("=") for each in files)]
        query = "&".join(f"{name}={self.folder / path}" for name, path in named)
        return f"{scheme}://{password}{HOST}:{self.tls}/0?{query}".rstrip("?")


def certificates(folder: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    for name, each in (("ca", authority.cert_pem), ("other", other.cert_pem)):
        each.write_to_path(str(folder / f"{name}.pem"))
    for name, issued in (
        ("server", authority.issue_cert(HOST)),
        ("client", authority.issue_cert("client")),
        ("stranger", other.issue_cert("client")),
    ):
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mutual"])
def encrypted(request: pytest.FixtureRequest) -> Iterator[Encrypted]:
    try:
        program = Redis.packages("7")  # Debian's has TLS; those out of wheels do not
    except Unavailable as error:
        if required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    folder, plain, tls = folder_for("redis-tls"), free_port(), free_port()
    certificates(folder)
    command = [
        str(program),
        "--port",
        str(plain),
        "--tls-port",
        str(tls),
        "--bind",
        HOST,
        "--dir",
        str(folder),
    ]
    command += ["--appendonly", "yes", "--save", "", "--requirepass", PASSWORD]
    command += ["--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.pem")]
    command += [
        "--tls-ca-cert-file",
        str(folder / "ca.pem"),
        "--tls-auth-clients",
        "yes" if request.param else "no",
    ]
    if request.param:
        # TLS 1.3 refuses a client after its first command: then its reason and the end race each other.
        command += ["--tls-protocols", "TLSv1.2"]
    server = LocalProcess(
        "a Redis with TLS", command, folder, lambda: answers(plain, b"PING\r\n", b"-NOAUTH")
    )
    server.start()
    try:
        yield Encrypted(folder, plain, tls, request.param)
    finally:
        server.close()


async def opened(url: str) -> None:
    store = RedisStore(url, "shop")
    try:
        await store.migrate()
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


CLIENT = ("ssl_certfile=client.pem", "ssl_keyfile=client.pem")
STRANGER = ("ssl_certfile=stranger.pem", "ssl_keyfile=stranger.pem")


async def test_what_fits_works(encrypted: Encrypted) -> None:
    await opened(encrypted.url("ssl_ca_certs=ca.pem", *CLIENT))
    if not encrypted.mutual:
        await opened(encrypted.url("ssl_ca_certs=ca.pem"))


async def test_a_server_that_asks_for_our_certificate(encrypted: Encrypted) -> None:
    if not encrypted.mutual:
        await opened(encrypted.url("ssl_ca_certs=ca.pem", *STRANGER))  # it does not ask
        return
    assert "or it wants ssl_certfile" in await refusal(encrypted.url("ssl_ca_certs=ca.pem"))
    said = await refusal(encrypted.url("ssl_ca_certs=ca.pem", *STRANGER))
    assert "does not accept our certificate" in said


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["ssl_ca_certs=other.pem"], "the server's certificate is not accepted"),
        ([], "the server's certificate is not accepted"),
        (["ssl_ca_certs=/nowhere/ca.pem"], "ssl_ca_certs='/nowhere/ca.pem' cannot be read: No such file"),
        (["ssl_ca_certs=/dev/null"], "ssl_ca_certs='/dev/null' holds no certificates"),
        (["ssl_ca_certs=ca.pem", "ssl_certfile=ca.pem", "ssl_keyfile=ca.pem"], "no certificate with its key"),
    ],
)
async def test_certificates_that_do_not_fit(encrypted: Encrypted, files: list[str], says: str) -> None:
    assert says in await refusal(encrypted.url(*files))


@pytest.mark.parametrize(
    ("password", "says"),
    [
        (":wrong-8472@", "check user, password and ACL"),
        ("nobody:wrong-8472@", "check user, password and ACL"),
        ("", "the server wants a password; the URL has none"),
    ],
)
async def test_passwords_that_do_not_fit(encrypted: Encrypted, password: str, says: str) -> None:
    assert says in await refusal(encrypted.url("ssl_ca_certs=ca.pem", *CLIENT, password=password))
    plain = f"redis://{password}{HOST}:{encrypted.plain}/0"
    assert says in await refusal(plain)


class Refusing:
    """A Sentinel's client, as its `ping` ends."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def ping(self) -> None:
        raise self.fault


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("Error 1: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1)", "ssl_ca_certs"),
        ("invalid username-password pair or user is disabled.", "check user, password and ACL"),
        ("Connect call failed", None),
    ],
)  # fmt: skip
async def test_sentinels_that_refuse_us_are_asked_why(said: str, says: str | None) -> None:
    """Where none names the primary, the driver's error has no reason."""
    address = parse(f"redis+sentinel://{HOST}:{free_port()}/shop")
    sentinels: Any = [Refusing(exceptions.ConnectionError(said))]
    why = await hopeless(address, sentinels, MasterNotFoundError("No master found for 'shop'"))
    assert why is None if says is None else says in (why or "")


async def test_tls_on_one_side_only(encrypted: Encrypted) -> None:
    assert f"{HOST}:{encrypted.tls} speaks TLS; use rediss://" in await refusal(encrypted.url(scheme="redis"))
    url = f"rediss://:{PASSWORD}@{HOST}:{encrypted.plain}/0?ssl_ca_certs={encrypted.folder}/ca.pem"
    assert f"{HOST}:{encrypted.plain} does not speak TLS; use redis://" in await refusal(url)


async def test_a_server_that_is_away_is_no_matter_of_settings(encrypted: Encrypted) -> None:
    nobody = f"rediss://:{PASSWORD}@{HOST}:{free_port()}/0?ssl_ca_certs={encrypted.folder}/ca.pem"
    for url in (nobody, nobody.replace("rediss", "redis").partition("?")[0]):
        with pytest.raises(StoreUnavailable):
            await opened(url)


async def test_the_command_ends_with_78(encrypted: Encrypted) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumer", "run", "handlers.notify:app",
        env=os.environ | {"CONSUMER_STORE": encrypted.url("ssl_ca_certs=other.pem"), "CONSUMER_BROKER": "embedded:"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 78, said
    assert "the server's certificate is not accepted" in said
    assert "Traceback" not in said
    assert PASSWORD not in said
