"""`consumer run APP`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import click

from consumer.app import App
from consumer.cli.exits import Code, guarded, migrate_hint
from consumer.cli.loading import load_app
from consumer.cli.logs import configure
from consumer.cli.observer import Watcher
from consumer.cli.options import connection_options
from consumer.cli.serving import serve
from consumer.cli.signals import Signals, end_now
from consumer.errors import SettingsError
from consumer.settings import Settings, redacted

__all__ = ["run"]


@click.command()
@click.argument("app")
@connection_options()
@click.option("--group", metavar="NAME", help="The Kafka consumer group; default: the app's name.")
@click.option("--processes", type=int, metavar="N", help="Worker processes; more than 1 is not built yet.")
@click.option(
    "--worker-ttl", type=float, metavar="S", help="Seconds without a sign of life until others adopt."
)
@click.option("--grace", type=float, metavar="S", help="Seconds that a shutdown waits for running handlers.")
@click.option(
    "--slots", type=int, metavar="N", help="Keys started at once; what a crash leaves in doubt at most."
)
@click.option("--log", type=click.Choice(["human", "json"]), help="Log format; default: human on a terminal.")
@guarded
def run(
    *,
    app: str,
    store: str | None,
    broker: str | None,
    config: str | None,
    group: str | None,
    processes: int | None,
    worker_ttl: float | None,
    grace: float | None,
    slots: int | None,
    log: str | None,
) -> None:
    """Feed the handlers until SIGTERM; then finish what is in hand and exit 0.

    Prints one line that starts with `ready` when it is consuming. A second signal ends it at once.
    """
    settings = Settings.load(
        config,
        store=store,
        broker=broker,
        consumer_group=group,
        processes=processes,
        worker_ttl=worker_ttl,
        grace=grace,
        slots=slots,
        log=log,
    )
    configure(settings.log, settings.log_level)
    if settings.processes > 1:
        raise SettingsError(
            f"processes = {settings.processes}: more than one is not built yet; start the command several times"
        )
    loaded = load_app(app)
    with migrate_hint(app, store):
        asyncio.run(_main(loaded, settings))


async def _main(app: App, settings: Settings) -> None:
    signals = Signals(settings.grace)
    signals.install()
    looking = sys.stdout.isatty()
    watcher = Watcher(_say if looking else None, log=not (looking and sys.stderr.isatty()))
    clean = await serve(app, settings, signals, watcher, lambda: _say(_ready_line(app, settings)))
    if not clean:
        # Not by returning: the event loop would wait for the handler that does not end.
        end_now(Code.FAILED)


def _ready_line(app: App, settings: Settings) -> str:
    count = len(app.handlers.declared)
    return (
        f"ready {app.name}: {count} handler{'' if count == 1 else 's'}, store {redacted(settings.store)},"
        f" broker {redacted(settings.broker)}, pid {os.getpid()}"
    )


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads us any more: no reason to stop working
        click.echo(line)
