"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from consumer.cli.logs import configure
from consumer.errors import SettingsError
from consumer.settings import Settings

__all__ = [
    "connection_options",
    "duration",
    "lasting_options",
    "lasting_settings",
    "not_blank",
    "one_shot_settings",
    "outlasting",
    "raw",
    "webhooks_option",
]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_QUIET = 60
"""Above every level: a verb that ends at once says what is wrong itself, in one line."""


def duration(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Return seconds: `90s`, `30m`, `12h`, `14d`, `2w` (a click callback)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration; write 90s, 30m, 12h, 14d or 2w", ctx, param)
    return float(found[1]) * _UNITS[found[2]]


def not_blank(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Return text without blanks around it, and refuse what has nothing else (a click callback)."""
    text = value.strip()
    if not text:
        raise click.BadParameter("must not be empty", ctx, param)
    return text.encode(errors="replace").decode()


_STORE = click.option(
    "--store",
    metavar="URL",
    help="sqlite:///file, postgresql://user@host/db, redis://host/0, memory:; default: CONSUMER_STORE.",
)
_BROKER = click.option(
    "--broker", metavar="URL", help="kafka://host:port[,host:port] or embedded:; default: CONSUMER_BROKER."
)
_CONFIG = click.option(
    "--config",
    metavar="FILE",
    help="A TOML file with a table [consumer]; default: consumer.toml, where there is one.",
)


def connection_options(*, broker: bool = True) -> Callable[[F], F]:
    """Return a decorator that adds `--store`, `--config` and, where it makes a difference, `--broker`."""

    def add(function: F) -> F:
        for option in (_CONFIG, *([_BROKER] if broker else []), _STORE):
            function = option(function)
        return function

    return add


def lasting_options(function: F) -> F:
    """Add what every verb has that runs until SIGTERM: connections, `--worker-ttl`, `--health-…`, `--log` (a decorator)."""
    log = click.option(
        "--log", type=click.Choice(["human", "json"]), help="Log format; default: human on a terminal."
    )
    ttl = click.option(
        "--worker-ttl", type=float, metavar="S", help="Seconds without a sign of life until others adopt."
    )
    port = click.option(
        "--health-port",
        type=click.IntRange(0, 65_535),
        metavar="PORT",
        help="Serve /livez, /readyz, /startupz and /metrics; with --processes N: from PORT on, one each.",
    )
    host = click.option(
        "--health-host", metavar="HOST", help="Address of the health port; default: 127.0.0.1."
    )
    return connection_options()(ttl(port(host(log(function)))))


def lasting_settings(config: str | None, **flags: Any) -> Settings:
    """Return the settings of a verb that runs until SIGTERM, and set up its logs.

    Args:
        config: the file, `None`: the default one.
        flags: by the names of the fields; `None` means not given.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = Settings.load(config, **flags)
    configure(settings.log, settings.log_level)
    return settings


def webhooks_option(function: F) -> F:
    """Add `--webhooks-to` (a decorator)."""
    option = click.option(
        "--webhooks-to",
        type=click.Choice(["store", "broker"]),
        help="Where a webhook is made durable before it is acknowledged: the store (default), or its topic on the broker.",
    )
    return option(function)


def one_shot_settings(config: str | None, **flags: Any) -> Settings:
    """Return the settings of a verb that ends by itself, and set up its logs: only ours, on stderr.

    Args:
        config: the file, `None`: the default one.
        flags: by the names of the fields; `None` means not given.

    Raises:
        SettingsError: a setting is wrong.
    """
    settings = Settings.load(config, **flags)
    configure(settings.log, settings.log_level, others=_QUIET)
    return settings


def outlasting(url: str, what: str) -> str:
    """Return a store's URL where the store outlives this process.

    Args:
        url: of the store.
        what: the verb would do, for the text: `look at`.

    Raises:
        SettingsError: it is `memory:`, so what one command leaves there no other one finds.
    """
    if url.partition(":")[0].lower() == "memory":
        raise SettingsError(
            f"store={url!r}: nothing in it outlives this process, so there is nothing to {what};"
            " use sqlite:///FILE, postgresql://… or redis://…"
        )
    return url


def raw(argument: str) -> bytes:
    """Return the bytes of an argument as they were on the command line, UTF-8 or not."""
    return os.fsencode(argument)
