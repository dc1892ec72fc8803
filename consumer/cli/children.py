"""`consumer run --processes N`: this process supervises, its children work."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from consumer.app import App
from consumer.errors import SettingsError
from consumer.settings import Settings, redacted
from consumer.stores import open_store
from consumer.worker.processes import Supervisor

__all__ = ["arguments_of", "check_shared", "supervise"]

LAST_PORT = 65_535


def check_shared(app: App, settings: Settings) -> None:
    """Refuse a store that lives in one process.

    Raises:
        SettingsError: names the store and the mend.
    """
    if not open_store(settings.store, app.name).capabilities.shared:
        raise SettingsError(
            f"processes = {settings.processes}: {redacted(settings.store)} lives in one process; "
            "use sqlite:///file, postgresql:// or redis://, or processes = 1"
        )


def arguments_of(context: click.Context, **instead: Any) -> list[str]:
    """Return the command line that calls this command again.

    Args:
        context: of the command that runs now.
        instead: values in the stead of those that were given, by parameter; `None` leaves one out.
    """
    values: Mapping[str, Any] = context.params | instead
    options: list[str] = []
    places: list[str] = []
    for parameter in context.command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            places.append(str(value))
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            if value != parameter.default:
                options.append((parameter.opts if value else parameter.secondary_opts or parameter.opts)[0])
        elif value is not None:
            options += [parameter.opts[0], str(value)]
    return [*options, "--", *places]


def supervise(
    context: click.Context, app: App, settings: Settings, say: Callable[[str], None], ready: str
) -> int:
    """Run the children of this command until a signal asks for the end; return the exit code.

    Args:
        context: of the command that runs now: the children run the same, with one process each.
        app: as loaded.
        settings: of this process.
        say: prints a line.
        ready: the line to print when all children are ready.
    """
    check_shared(app, settings)
    last = settings.health_port + settings.processes - 1
    if settings.health_port and last > LAST_PORT:
        raise SettingsError(
            f"health_port = {settings.health_port}: {settings.processes} processes need ports up to {last};"
            f" there is none above {LAST_PORT}"
        )

    def command(number: int) -> list[str]:
        instance = None if settings.instance is None else f"{settings.instance}-{number}"
        port = settings.health_port and settings.health_port + number - 1
        own = arguments_of(context, processes=1, supervised=True, instance=instance, health_port=port)
        return [sys.executable, "-m", "consumer", str(context.info_name), *own]

    supervisor = Supervisor(
        command, settings.processes, grace=settings.grace, say=say, ready=lambda: say(ready)
    )
    return asyncio.run(_until_ended(supervisor))


async def _until_ended(supervisor: Supervisor) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    return await supervisor.run()
