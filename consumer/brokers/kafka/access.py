"""How Kafka is spoken to: in the clear or by TLS, and who we say that we are."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from consumer.errors import SettingsError

__all__ = ["MECHANISMS", "OPEN", "PROTOCOLS", "Access"]

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Access:
    """What every connection to the broker needs beside its address. The fields are the settings `kafka_…`.

    Args:
        security_protocol: one of `PROTOCOLS`, in any case.
        sasl_mechanism: one of `MECHANISMS`, in any case; where the protocol has SASL.
        username, password: for SASL.
        cafile: PEM of the authorities that sign brokers; `None`: those of the system.
        certfile, keyfile: PEM of our own certificate and its key, where brokers ask for one. `keyfile` may be in
            `certfile`.

    Raises:
        SettingsError: they do not fit together; the text names the setting.
    """

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "security_protocol", self.security_protocol.upper())
        if self.security_protocol not in PROTOCOLS:
            raise SettingsError(
                f"kafka_security_protocol = {self.security_protocol!r}: must be one of {', '.join(PROTOCOLS)}"
            )
        if self.sasl_mechanism is not None:
            object.__setattr__(self, "sasl_mechanism", self.sasl_mechanism.upper())
            if self.sasl_mechanism not in MECHANISMS:
                raise SettingsError(
                    f"kafka_sasl_mechanism = {self.sasl_mechanism!r}: must be one of {', '.join(MECHANISMS)}"
                )
        self._check_sasl()
        self._check_tls()

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in {"SSL", "SASL_SSL"}

    @property
    def sasl(self) -> bool:
        """Whether we say who we are by SASL."""
        return self.security_protocol.startswith("SASL_")

    def options(self) -> dict[str, Any]:
        """Return these as aiokafka's arguments.

        Raises:
            SettingsError: a certificate or key cannot be read.
        """
        found: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.tls:
            found["ssl_context"] = self._context()
        if self.sasl:
            found |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return found

    def _check_sasl(self) -> None:
        given = {
            "kafka_sasl_mechanism": self.sasl_mechanism,
            "kafka_username": self.username,
            "kafka_password": self.password,
        }
        for name, value in given.items():
            if self.sasl and not value:
                raise SettingsError(
                    f"{name}: needed with kafka_security_protocol = {self.security_protocol!r}; set it"
                )
            if not self.sasl and value is not None:
                raise SettingsError(
                    f"{name}: is set, but kafka_security_protocol = {self.security_protocol!r} has no SASL;"
                    " use SASL_SSL or SASL_PLAINTEXT"
                )

    def _check_tls(self) -> None:
        for name in ("cafile", "certfile", "keyfile"):
            if getattr(self, name) is not None and not self.tls:
                raise SettingsError(
                    f"kafka_{name}: is set, but kafka_security_protocol = {self.security_protocol!r} has no TLS;"
                    " use SSL or SASL_SSL"
                )
        if self.keyfile is not None and self.certfile is None:
            raise SettingsError("kafka_keyfile: is set without kafka_certfile; set that too")

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except (OSError, ValueError) as fault:
            raise SettingsError(f"kafka_cafile = {self.cafile!r}: {_said(fault)}") from None
        if self.certfile is not None:
            try:
                # Without a password function OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certfile, self.keyfile, password=lambda: "")
            except (OSError, ValueError) as fault:
                raise SettingsError(
                    f"kafka_certfile = {self.certfile!r}, kafka_keyfile = {self.keyfile!r}: {_said(fault)}"
                ) from None
        return context


def _said(fault: Exception) -> str:
    if isinstance(fault, ssl.SSLError):
        return f"not what is expected in PEM ({fault.reason or fault}); check the file"
    if isinstance(fault, OSError):
        return f"cannot be read ({fault.strerror}); check the path"
    return f"{fault}; check the file"


OPEN = Access()
"""Neither TLS nor SASL."""
