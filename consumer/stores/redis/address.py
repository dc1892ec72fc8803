"""Redis URLs: one server, Sentinels that know the primary, or a cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from consumer.errors import SettingsError
from consumer.settings import redacted

__all__ = ["Address", "parse"]

_PORTS = {"redis": 6379, "sentinel": 26379, "cluster": 6379}
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL = ("sentinel_username", "sentinel_password")
_LONGEST_SERVICE = 255


class Address(msgspec.Struct, frozen=True):
    """Where Redis is.

    Attributes:
        shown: the URL without its password.
        kind: `redis` (one server), `sentinel` or `cluster`.
        hosts: (host, port), one or several.
        database: its number; 0 on a cluster.
        service: the name that Sentinels know the primary by.
        options: what the driver needs: user, password, TLS.
        sentinel_options: the same for the Sentinels.
        weak: settings that weaken the promise are permitted.
    """

    shown: str
    kind: str
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    service: str = ""
    options: dict[str, Any] = {}
    sentinel_options: dict[str, Any] = {}
    weak: bool = False


def parse(url: str) -> Address:
    """Read a URL.

    Args:
        url: `redis://user:password@host:port/0`, `rediss://…` (TLS), `redis+sentinel://h1,h2/service/0`,
            `redis+cluster://h1,h2`; the query may hold `weak=yes`, `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
            `sentinel_username` and `sentinel_password`.

    Raises:
        SettingsError: it cannot be read; the text has the URL without its password, and the mend.
    """
    shown = redacted(url)
    try:
        return _parse(url, shown)
    except (ValueError, UnicodeError) as fault:
        raise SettingsError(f"store={shown!r}: {fault}") from None


def _parse(url: str, shown: str) -> Address:
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.lower().partition("+")
    kind = kind or "redis"
    if base not in {"redis", "rediss"} or kind not in _PORTS:
        raise ValueError("use redis://, rediss://, redis+sentinel:// or redis+cluster://")
    parts = urlsplit("//" + rest)
    credentials, _, places = parts.netloc.rpartition("@")
    hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(","))
    if kind == "redis" and len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    weak = query.pop("weak", "no") == "yes"
    tls = {name: query.pop(name) for name in _TLS if name in query}
    sentinel = {name.removeprefix("sentinel_"): query.pop(name) for name in _SENTINEL if name in query}
    if query:
        raise ValueError(
            f"unknown parameter {min(query)!r}; there are weak, {', '.join((*_TLS, *_SENTINEL))}"
        )
    if (tls and base != "rediss") or (sentinel and kind != "sentinel"):
        raise ValueError("ssl_… needs rediss://, and sentinel_… needs redis+sentinel://")
    encryption = {"ssl": True, **tls} if base == "rediss" else {}
    user, colon, password = credentials.partition(":")
    service, database = _path(kind, [unquote(part) for part in parts.path.strip("/").split("/") if part])
    return Address(
        shown,
        kind,
        hosts,
        database,
        service,
        {
            **encryption,
            **({"username": unquote(user)} if user else {}),
            **({"password": unquote(password)} if colon else {}),
        },
        {**encryption, **sentinel},
        weak,
    )


def _host(place: str, port: int) -> tuple[str, int]:
    host, colon, number = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, number = place, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError("a host is missing")
    if not number.isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f"{number!r} is not a port")
    return unquote(host), int(number)


def _path(kind: str, path: list[str]) -> tuple[str, int]:
    service = ""
    if kind == "sentinel":
        if not path or len(path[0]) > _LONGEST_SERVICE:
            raise ValueError("the name of the primary is missing: redis+sentinel://host1,host2/NAME/0")
        service, *path = path
    number = path[0] if path else "0"
    if len(path) > 1 or not number.isdecimal():
        raise ValueError(f"{'/'.join(path)!r} is not the number of a database")
    if kind == "cluster" and number != "0":
        raise ValueError("a cluster has only database 0")
    return service, int(number)
