"""A Kafka broker of one's own with TLS and SASL listeners, and the certificates for it."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.services import packages
from tests.services.base import HOST, folder_for, free_port
from tests.services.kafka import CLUSTER, HEAP, SETTINGS, _is_up
from tests.services.process import LocalProcess

USER, PASSWORD = "shop", "pass-4711"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


@dataclass(frozen=True)
class Secured:
    """Where the listeners are (`host:port` by name: PLAINTEXT, SSL, MUTUAL, SASL_PLAINTEXT, SASL_SSL), and the files."""

    listeners: Mapping[str, str]
    cafile: str
    other_cafile: str
    certfile: str


def certificates(folder: Path) -> tuple[trustme.CA, trustme.CA]:
    """Write ca.pem, other.pem (an authority that signed nothing), server.pem and client.pem."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    for name, certificate in (
        ("server", authority.issue_cert(HOST, "localhost")),
        ("client", authority.issue_cert("client")),
    ):
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        text = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )  # Kafka reads no other form
        chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(text + chain)
    return authority, other


@contextlib.contextmanager
def secured_kafka(**more: str) -> Iterator[Secured]:
    """A running broker. Raises Unavailable.

    Args:
        more: settings of the broker, as `super_users="User:admin"`.
    """
    jars = packages.maven("org.apache.kafka", "kafka_2.13", "4.3.1")
    folder = folder_for("kafka-secured")
    certificates(folder)
    names = {
        "PLAINTEXT": "PLAINTEXT",
        "SSL": "SSL",
        "MUTUAL": "SSL",
        "SASL_PLAINTEXT": "SASL_PLAINTEXT",
        "SASL_SSL": "SASL_SSL",
    }
    ports = {name: free_port() for name in names}
    controller = f"{HOST}:{free_port()}"
    settings = SETTINGS | _settings(folder, names, ports, controller)
    settings |= {name.replace("_", "."): value for name, value in more.items()}
    file = folder / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = [str(packages.java()), *HEAP, "-cp", f"{jars}/*"]
    scram = [f"--add-scram=SCRAM-SHA-{size}=[name={USER},password={PASSWORD}]" for size in ("256", "512")]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config", str(file), *scram],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    server = LocalProcess(
        "a secured Kafka", [*java, "kafka.Kafka", str(file)], folder, _is_up(ports["PLAINTEXT"])
    )
    server.start()
    try:
        places = {name: f"{HOST}:{port}" for name, port in ports.items()}
        yield Secured(places, *(str(folder / name) for name in ("ca.pem", "other.pem", "client.pem")))
    finally:
        server.close()


def _settings(
    folder: Path, names: Mapping[str, str], ports: Mapping[str, int], controller: str
) -> dict[str, str]:
    places = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
    found = {
        "listeners": f"{places},CONTROLLER://{controller}",
        "advertised.listeners": places,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in names.items())
        + ",CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(folder / "data"),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        # SCRAM-SHA-512 on one listener only: the other shows what a mechanism that is not enabled says.
        "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "connection.failed.authentication.delay.ms": "50",
    }
    for listener in ("sasl_plaintext", "sasl_ssl"):
        found[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
            f'{_PLAIN} required user_{USER}="{PASSWORD}";'
        )
        for size in ("256", "512"):
            found[f"listener.name.{listener}.scram-sha-{size}.sasl.jaas.config"] = f"{_SCRAM} required;"
    return found
