"""TLS and SASL against a real broker with these listeners; what is refused says why, in one line, and ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.brokers.kafka import Access, KafkaSink, KafkaSource
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Outgoing
from tests.integration.kafka_tools import member
from tests.services import Unavailable, required
from tests.services.kafka import Kafka
from tests.services.secured import PASSWORD, USER, Secured, secured_kafka

pytestmark = pytest.mark.usefixtures("nothing_left_open")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    try:
        with secured_kafka() as one:
            yield one
    except Unavailable as error:
        if required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def sasl(mechanism: str, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    return {"sasl_mechanism": mechanism, "username": USER, "password": password, **more}


def access(secured: Secured, listener: str, **more: Any) -> Access:
    protocol = "SSL" if listener == "MUTUAL" else listener
    if "SSL" in protocol:
        more.setdefault("cafile", secured.cafile)
    return Access(protocol, **more)


async def fresh_topic(secured: Secured) -> str:
    name = f"secured-{next(_numbers)}"
    await Kafka(secured.listeners["PLAINTEXT"], None).create_topics({name: 1})  # type: ignore[arg-type]
    return name


@pytest.mark.parametrize(
    ("listener", "more"),
    [
        ("SSL", {}),
        ("SASL_PLAINTEXT", sasl("PLAIN")),
        ("SASL_PLAINTEXT", sasl("scram-sha-256")),
        ("SASL_SSL", sasl("SCRAM-SHA-256")),
        ("SASL_SSL", sasl("SCRAM-SHA-512")),
    ],
)
async def test_messages_go_out_and_come_in(secured: Secured, listener: str, more: dict[str, Any]) -> None:
    topic = await fresh_topic(secured)
    place, how = secured.listeners[listener], access(secured, listener, **more)
    sink = KafkaSink(place, access=how)
    try:
        await sink.publish([(None, Outgoing(b"i" * 16, topic, b"hello"))])
    finally:
        await sink.stop()
    async with member(KafkaSource(place, f"group-{topic}", access=how), topic) as one:
        await one.has(1)
    assert one.values == [b"hello"]


async def test_a_certificate_of_our_own(secured: Secured) -> None:
    topic = await fresh_topic(secured)
    how = access(secured, "MUTUAL", certfile=secured.certfile)
    sink = KafkaSink(secured.listeners["MUTUAL"], access=how)
    try:
        [answer] = await sink.publish([(None, Outgoing(b"i" * 16, topic, b"hello"))])
    finally:
        await sink.stop()
    assert answer.refused is None


@pytest.mark.parametrize(
    ("listener", "more", "says"),
    [
        ("SASL_SSL", sasl("PLAIN", "wrong-8472"), "'shop' or the password is not accepted"),
        ("SASL_SSL", sasl("SCRAM-SHA-512", "wrong-8472"), "'shop' or the password is not accepted"),
        ("SASL_PLAINTEXT", sasl("SCRAM-SHA-256", "wrong-8472"), "'shop' or the password is not accepted"),
        ("SASL_PLAINTEXT", sasl("SCRAM-SHA-512"), "'SCRAM-SHA-512' is not enabled there"),
        ("SSL", {"cafile": "other"}, "its certificate is not accepted"),
        ("MUTUAL", {}, "it does not accept our certificate"),
    ],
)
async def test_a_refusal_says_why(
    secured: Secured, listener: str, more: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    if more.get("cafile") == "other":
        more = {**more, "cafile": secured.other_cafile}
    place, how = secured.listeners[listener], access(secured, listener, **more)
    began = time.monotonic()
    for start in (
        KafkaSource(place, "group", access=how).start(["topic"], _nothing),
        KafkaSink(place, access=how).publish([(None, Outgoing(b"i" * 16, "topic", b""))]),
    ):
        with pytest.raises(SettingsError) as error:
            await start
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    assert time.monotonic() - began < 30
    assert "8472" not in caplog.text


@pytest.mark.parametrize("listener", ["SSL", "SASL_SSL"])
async def test_plain_text_to_an_encrypted_port(secured: Secured, listener: str) -> None:
    with pytest.raises((BrokerUnavailable, SettingsError)):
        await KafkaSource(secured.listeners[listener], "group").start(["topic"], _nothing)


async def test_the_command_ends_with_78(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong-8472\n")
    environ = os.environ | {
        "CONSUMER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "CONSUMER_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "CONSUMER_KAFKA_USERNAME": USER,
        "CONSUMER_KAFKA_PASSWORD_FILE": str(tmp_path / "password"),
        "CONSUMER_KAFKA_CAFILE": secured.cafile,
        "CONSUMER_BROKER": f"kafka://{secured.listeners['SASL_SSL']}",
        "CONSUMER_STORE": f"sqlite:///{tmp_path}/shop.db",
    }
    assert (await _consumer(environ, "migrate", "handlers.app:app"))[0] == 0
    code, said = await _consumer(environ, "run", "handlers.app:app")
    assert code == 78, said
    assert "password is not accepted" in said
    assert "Traceback" not in said
    assert "8472" not in said


async def _consumer(environ: dict[str, str], *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consumer", *arguments, env=environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(40):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode()


async def _nothing() -> None: ...


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"security_protocol": "TLS"}, "kafka_security_protocol = 'TLS': must be one of PLAINTEXT, SSL"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"},
            "kafka_sasl_mechanism = 'GSSAPI': must be",
        ),
        ({"security_protocol": "SASL_SSL"}, "kafka_sasl_mechanism: needed with"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "username": "u"},
            "kafka_password: needed",
        ),
        ({"password": "secret-8472"}, "kafka_password: is set, but"),
        ({"cafile": "ca.pem"}, "kafka_cafile: is set, but"),
        ({"security_protocol": "SSL", "keyfile": "k.pem"}, "kafka_keyfile: is set without kafka_certfile"),
        ({"security_protocol": "SSL", "cafile": "/nowhere/ca.pem"}, "'/nowhere/ca.pem': cannot be read"),
        (
            {"security_protocol": "SSL", "certfile": "/nowhere/c.pem"},
            "'/nowhere/c.pem', kafka_keyfile = None",
        ),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as error:
        Access(**given).options()
    assert says in str(error.value)
    assert "8472" not in str(error.value)


def test_a_password_is_not_shown() -> None:
    assert "secret-8472" not in repr(Access("SASL_SSL", "PLAIN", "u", "secret-8472"))
