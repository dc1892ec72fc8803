"""`consumer relay APP`: passes the outbox on, and runs no handler."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from consumer.app import App
from consumer.brokers.address import is_embedded
from consumer.cli.exits import Code, guarded, migrate_hint
from consumer.cli.loading import load_app
from consumer.cli.observer import Watcher
from consumer.cli.options import lasting_options, lasting_settings
from consumer.cli.output import say
from consumer.cli.serving import serve
from consumer.cli.signals import Signals, end_now
from consumer.errors import SettingsError
from consumer.settings import Settings, redacted

__all__ = ["relay"]


@click.command()
@click.argument("app")
@lasting_options
@guarded
def relay(
    *,
    app: str,
    store: str | None,
    config: str | None,
    **flags: Any,
) -> None:
    """Publish what is committed in the outbox, until SIGTERM. No handler runs, no resource is opened.

    Beside workers that run with --no-relay; any number of relays share the outbox.
    """
    settings = lasting_settings(config, store=store, **flags)
    loaded = load_app(app)
    if is_embedded(settings.broker):
        raise SettingsError(
            "broker = 'embedded:': embedded topics need no relay; say --broker kafka://host:port"
        )
    with migrate_hint(app, store):
        asyncio.run(_main(loaded, settings))


async def _main(app: App, settings: Settings) -> None:
    signals = Signals(settings.grace)
    signals.install()
    line = (
        f"ready {app.name}: relay, store {redacted(settings.store)}, broker {redacted(settings.broker)},"
        f" pid {os.getpid()}"
    )
    clean = await serve(app, settings, signals, Watcher(), lambda _: say(line), consume=False, relay=True)
    if not clean:
        end_now(Code.FAILED)
