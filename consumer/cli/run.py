"""`consumer run APP`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from consumer.app import App
from consumer.cli.children import supervise
from consumer.cli.exits import Code, guarded, migrate_hint
from consumer.cli.loading import load_app
from consumer.cli.observer import Watcher
from consumer.cli.options import lasting_options, lasting_settings, webhooks_option
from consumer.cli.output import say
from consumer.cli.serving import serve
from consumer.cli.signals import Signals, end_now, end_with_stdin
from consumer.errors import SettingsError
from consumer.http.server import address_of
from consumer.settings import Settings, redacted

__all__ = ["run"]


@click.command()
@click.argument("app")
@lasting_options
@click.option("--group", metavar="NAME", help="The Kafka consumer group; default: the app's name.")
@click.option(
    "--instance",
    metavar="NAME",
    help="A name that outlives restarts: Kafka gives its partitions back without a rebalance.",
)
@click.option(
    "--from",
    "first_position",
    metavar="WHERE",
    help="Where a new consumer group begins: earliest (default), latest, or a time (ISO 8601, or seconds since 1970).",
)
@click.option("--processes", type=int, metavar="N", help="Worker processes; what dies is started again.")
@click.option("--relay/--no-relay", default=True, help="Publish the outbox too, or leave it to others.")
@click.option("--ingest", metavar="HOST:PORT", help="Serve HTTP and webhooks in the same process.")
@webhooks_option
@click.option("--grace", type=float, metavar="S", help="Seconds that a shutdown waits for running handlers.")
@click.option(
    "--slots", type=int, metavar="N", help="Keys started at once; what a crash leaves in doubt at most."
)
@click.option("--supervised", is_flag=True, hidden=True, help="End when stdin does.")
@click.pass_context
@guarded
def run(
    context: click.Context,
    /,
    *,
    app: str,
    store: str | None,
    config: str | None,
    group: str | None,
    relay: bool,
    ingest: str | None,
    supervised: bool,
    **flags: Any,
) -> None:
    """Feed the handlers until SIGTERM; then finish what is in hand and exit 0.

    Prints one line that starts with `ready` when it is consuming. A second signal ends it at once.
    """
    settings = lasting_settings(config, store=store, consumer_group=group, **flags)
    if supervised:
        end_with_stdin()
    loaded = load_app(app)
    address = None if ingest is None else address_of(ingest)
    if settings.processes > 1 and address is not None:
        raise SettingsError("--ingest: one port has one process; run `consumer ingest` beside --processes")
    if settings.processes > 1:
        loaded.handlers.check()
        raise click.exceptions.Exit(supervise(context, loaded, settings, say, _ready_line(loaded, settings)))
    with migrate_hint(app, store):
        asyncio.run(_main(loaded, settings, relay=relay, ingest=address))


async def _main(app: App, settings: Settings, *, relay: bool, ingest: tuple[str, int] | None) -> None:
    signals = Signals(settings.grace)
    signals.install()
    looking = sys.stdout.isatty()
    watcher = Watcher(say if looking else None, log=not (looking and sys.stderr.isatty()))
    clean = await serve(
        app,
        settings,
        signals,
        watcher,
        lambda address: say(_ready_line(app, settings, address)),
        relay=relay,
        ingest=ingest,
    )
    if not clean:
        # Not by returning: the event loop would wait for the handler that does not end.
        end_now(Code.FAILED)


def _ready_line(app: App, settings: Settings, address: str | None = None) -> str:
    count = len(app.handlers.declared)
    processes = f"{settings.processes} processes, " if settings.processes > 1 else ""
    http = "" if address is None else f"http://{address}, "
    return (
        f"ready {app.name}: {http}{processes}{count} handler{'' if count == 1 else 's'}, store {redacted(settings.store)},"
        f" broker {redacted(settings.broker)}, pid {os.getpid()}"
    )
