"""Broker URLs: `kafka://host:port[,host:port]` and `embedded:`."""

from __future__ import annotations

from consumer.errors import SettingsError
from consumer.settings import redacted

__all__ = ["is_embedded", "kafka_bootstrap"]

_KAFKA = "kafka://"
_EXPECTED = "expected kafka://host:port[,host:port] or embedded:"
_PORTS = range(1, 65_536)


def is_embedded(url: str) -> bool:
    """Return whether `url` means that topics live in the store (`embedded:`)."""
    return url in {"embedded:", "embedded://"}


def kafka_bootstrap(url: str) -> str:
    """Return the bootstrap servers of a `kafka://` URL as `host:port[,host:port]`.

    Args:
        url: `kafka://host:port[,host:port]`; an IPv6 address stands in brackets: `kafka://[::1]:9092`.

    Raises:
        SettingsError: it is not such a URL; the text quotes the part that is wrong.
    """
    if not url.startswith(_KAFKA):
        raise SettingsError(f"broker {redacted(url)!r}: {_EXPECTED}")
    if "@" in url:
        # Not quoted any further: what stands before it may be a password.
        raise SettingsError(f"broker {redacted(url)!r}: holds more than host:port; {_EXPECTED}")
    servers = [server.strip() for server in url.removeprefix(_KAFKA).removesuffix("/").split(",")]
    for server in servers:
        _check(url, server)
    return ",".join(servers)


def _check(url: str, server: str) -> None:
    """Refuse what is not exactly `host:port`: user names, paths and options would be silently lost."""
    host, colon, port = server.rpartition(":")
    if not colon or not host:
        raise SettingsError(f"broker {url!r}: {server!r} is not host:port; {_EXPECTED}")
    if any(sign in server for sign in "/?# "):
        raise SettingsError(f"broker {url!r}: {server!r} holds more than host:port; {_EXPECTED}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise SettingsError(f"broker {url!r}: an IPv6 address needs brackets, as in [::1]:9092")
    if not (port.isascii() and port.isdigit() and int(port) in _PORTS):
        raise SettingsError(f"broker {url!r}: {port!r} is not a port number; {_EXPECTED}")
