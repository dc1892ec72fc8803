"""What whoever starts the process decides: where the store and the broker are, and how much load is taken."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from consumer.errors import SettingsError

__all__ = ["Secret", "Settings", "first_position", "redacted"]

PREFIX = "CONSUMER_"
_LATEST = 32_503_680_000  # the year 3000: beyond it somebody has written milliseconds


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that is never shown: read from the environment or a file at the moment of use."""

    kind: str
    name: str

    @staticmethod
    def env(name: str) -> Secret:
        """A secret in the environment variable `name`."""
        return Secret("env", name)

    @staticmethod
    def file(path: str) -> Secret:
        """A secret in a file; a trailing line end is not part of it."""
        return Secret("file", path)

    def read(self) -> str:
        """Return the value.

        Raises:
            SettingsError: it is not there; the text names where it was looked for.
        """
        if self.kind == "env":
            value = os.environ.get(self.name)
            if value is None:
                raise SettingsError(f"secret: the environment variable {self.name} is not set; set it")
            return value
        try:
            return Path(self.name).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as fault:
            raise SettingsError(
                f"secret: {self.name} cannot be read ({fault.strerror}); check the path"
            ) from None
        except UnicodeDecodeError:
            raise SettingsError(f"secret: {self.name} is not UTF-8 text; check what is in it") from None


def _setting(default: Any, text: str, *, secret: bool = False) -> Any:
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"text": text, "default": default})
    return field(default=default, repr=not secret, metadata={"text": text, "default": default})


_DAY = 86_400
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "processes": (1, 1_000),
    "slots": (1, 100_000),
    "in_hand": (1, 1_000_000),
    "in_hand_bytes": (1, 2**40),
    "worker_ttl": (1, _DAY),
    "grace": (0, _DAY),
    "loop_limit": (1, _DAY),
    "unfinished_limit": (0, 365 * _DAY),
    "health_port": (0, 65_535),
}
"""The least and the most of every number."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process; the docs' table is generated from these lines.

    What changes the promise (mode, key, name, same) lives in code and is refused here.
    """

    store: str = _setting(
        "sqlite:///consumer.db", "where entries live: sqlite:///file, postgresql://…, redis://…, memory:"
    )
    broker: str = _setting(
        "embedded:", "where topics live: embedded: (in the store) or kafka://host:port[,host:port]"
    )
    topics: Mapping[str, str] = _setting(
        {}, "topics that live elsewhere than `broker` says: {topic = 'embedded:'}"
    )
    webhooks_to: str = _setting(
        "store",
        "where webhooks are made durable before they are acknowledged: store, or broker (on their topic)",
    )
    consumer_group: str | None = _setting(None, "the Kafka consumer group; default: the app's name")
    instance: str | None = _setting(
        None,
        "a name of this process that outlives restarts (Kafka's static membership); with processes: NAME-1, …",
    )
    processes: int = _setting(1, "worker processes of this command; what dies is started again")
    grace: float = _setting(25.0, "seconds that shutdown waits for running handlers")
    slots: int = _setting(
        64, "AtMostOnce and AtLeastOnce keys started at once; the bound of what a crash leaves in doubt"
    )
    worker_ttl: float = _setting(
        15.0, "seconds without a sign of life after which a worker's claims are adopted"
    )
    in_hand: int = _setting(1_000, "unacknowledged deliveries a partition may have before it is paused")
    in_hand_bytes: int = _setting(
        268_435_456,
        "bytes of unfinished Kafka messages in memory, about; shared evenly by the partitions assigned",
    )
    first_position: str = _setting(
        "earliest",
        "where a new consumer group begins: earliest, latest, or a time (ISO 8601, or seconds since 1970)",
    )
    kafka_security_protocol: str = _setting(
        "PLAINTEXT", "how Kafka is spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: str | None = _setting(None, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    kafka_username: str | None = _setting(None, "who we are to Kafka")
    kafka_password: str | None = _setting(
        None, "the password for that; better by CONSUMER_KAFKA_PASSWORD_FILE", secret=True
    )
    kafka_cafile: str | None = _setting(
        None, "PEM of the authorities that sign Kafka's certificates; default: the system's"
    )
    kafka_certfile: str | None = _setting(None, "PEM of our own certificate, where Kafka asks for one")
    kafka_keyfile: str | None = _setting(None, "PEM of its key; default: in the same file")
    health_port: int = _setting(
        0, "port of /livez, /readyz, /startupz and /metrics, of a thread of their own; 0: nothing is served"
    )
    health_host: str = _setting("127.0.0.1", "address of the health port; 0.0.0.0 in a container")
    loop_limit: float = _setting(
        30.0, "seconds that the event loop may be held until /livez says that the process hangs"
    )
    unfinished_limit: float = _setting(
        0.0,
        "seconds that a message may be in hand until /readyz says so; 0: twice the longest time-out and 10 minutes",
    )
    concurrency: Mapping[str, int] = _setting({}, "per handler name: how many of its keys may run at once")
    log: str = _setting("auto", "log format: human, json, or auto (human on a terminal)")
    log_level: str = _setting("info", "debug, info, warning or error")

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:  # not a number is in no range
                raise SettingsError(f"{name} = {value!r}: must be from {least:,} to {most:,}")
        for name in ("consumer_group", "instance"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise SettingsError(f"{name} = {value!r}: must not be empty; leave it out for the default")
        first_position(self.first_position)
        if self.webhooks_to not in {"store", "broker"}:
            raise SettingsError(f"webhooks_to = {self.webhooks_to!r}: must be store or broker")
        if self.log not in {"auto", "human", "json"}:
            raise SettingsError(f"log = {self.log!r}: must be auto, human or json")
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise SettingsError(f"log_level = {self.log_level!r}: must be debug, info, warning or error")

    @staticmethod
    def load(
        file: str | Path | None = None, environ: Mapping[str, str] | None = None, **flags: Any
    ) -> Settings:
        """Read settings: flags, then `CONSUMER_*` (and `CONSUMER_*_FILE`), then `[consumer]` in a TOML file, then defaults.

        Args:
            file: a TOML file; `None`: `consumer.toml` in the working directory where there is one.
            environ: default: the process' environment.
            flags: by the names of the fields; `None` means not given.

        Raises:
            SettingsError: an unknown name or a wrong value; the text says where it stands and what is expected.
        """
        environ = os.environ if environ is None else environ
        values = _from_file(file) | _from_environ(environ)
        values |= {name: value for name, value in flags.items() if value is not None}
        for name, value in values.items():
            values[name] = _checked(name, value)
        return Settings(**values)

    def with_(self, **changes: Any) -> Settings:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


_FIELDS = {each.name: each for each in fields(Settings)}
_IN_CODE = {"mode", "key", "name", "same"}


def _from_file(file: str | Path | None) -> dict[str, Any]:
    path = Path("consumer.toml") if file is None else Path(file)
    if file is None and not path.exists():
        return {}
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8")).get("consumer", {})
    except OSError as fault:
        raise SettingsError(f"{path}: cannot be read ({fault.strerror}); check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path}: is not TOML: {fault}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: consumer = {table!r}: a table is expected; write [consumer]")
    for name in table:
        if name not in _FIELDS:
            raise SettingsError(f"{path}: [consumer] {name}: {_unknown(name)}")
    return dict(table)


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, kind in _FIELDS.items():
        variable = PREFIX + name.upper()
        if isinstance(kind.metadata["default"], dict):
            continue  # tables are only for the file
        if variable in environ:
            values[name] = environ[variable]
        elif variable + "_FILE" in environ:
            values[name] = Secret.file(environ[variable + "_FILE"]).read()
    return values


def _unknown(name: str) -> str:
    if name in _IN_CODE:
        return "changes the promise, so it lives in code; remove it here"
    return f"is not a setting; there are {', '.join(_FIELDS)}"


def _checked(name: str, value: Any) -> Any:
    if name not in _FIELDS:
        raise SettingsError(f"{name}: {_unknown(name)}")
    default = _FIELDS[name].metadata["default"]
    try:
        if isinstance(default, bool) or default is None or isinstance(default, str):
            return value.read() if isinstance(value, Secret) else str(value)
        if isinstance(default, int | float):
            return _number(value, whole=isinstance(default, int))
    except (TypeError, ValueError):
        kind = "whole number" if isinstance(default, int) else "number"
        raise SettingsError(f"{name} = {value!r}: a {kind} is expected") from None
    if not isinstance(value, Mapping):
        raise SettingsError(f"{name} = {value!r}: a table is expected")
    numbers = name == "concurrency"
    for inner, entry in value.items():
        if type(entry) is not (int if numbers else str):
            what = "a whole number is" if numbers else "the URL of a broker, or 'embedded:', is"
            hint = f'; a name with dots is quoted: "{inner}.…" = …' if isinstance(entry, Mapping) else ""
            raise SettingsError(f"{name}: {inner} = {entry!r}: {what} expected{hint}")
    return dict(value)


def _number(value: Any, *, whole: bool) -> float:
    if isinstance(value, bool) or (whole and isinstance(value, float)):
        raise TypeError
    return int(value) if whole else float(value)


def first_position(text: str) -> Literal["earliest", "latest"] | float:
    """Return where a new consumer group begins: a word, or seconds since 1970.

    Args:
        text: `earliest`, `latest`, ISO 8601 (without an offset: UTC), or seconds since 1970.

    Raises:
        SettingsError: it is none of these.
    """
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    try:
        return _since_1970(text)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"first_position = {text!r}: must be earliest, latest, an ISO 8601 time such as"
            " 2026-01-31T12:00:00Z, or seconds since 1970"
        ) from None


def _since_1970(text: str) -> float:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and len(text) != len("20260131"):
        seconds = float(text)
    else:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds < _LATEST:
        raise ValueError(text)
    return seconds


def redacted(url: str) -> str:
    """Return a URL as it may be shown: without its password, whatever else is wrong with it."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        # Not a URL: what stands before an "@" may still be somebody's password.
        return url if "@" not in url else "…@" + url.rpartition("@")[2]
    # A password may hold "/", "?" and "@" where somebody forgot to escape them: all up to the last "@" goes.
    credentials, at, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    shown = place if not at else f"{user}:…@{place}" if ":" in credentials else f"{credentials}@{place}"
    before, query, parameters = shown.partition("?")
    kept = "&".join(_hidden(parameter) for parameter in parameters.split("&"))
    return f"{scheme}://{before}{query}{kept}"


def _hidden(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=…" if equals and "password" in name.lower() else parameter
