"""`consumer check APP`."""

from __future__ import annotations

import asyncio

import click

from consumer.app import App
from consumer.cli.exits import Code, Stop, guarded
from consumer.cli.loading import load_app
from consumer.cli.options import connection_options
from consumer.errors import SettingsError
from consumer.ports.tracing import Untraced
from consumer.settings import Settings
from consumer.worker.connect import Connections, connect
from consumer.worker.forwarding import forwarder_of
from consumer.worker.suited import check_resources
from consumer.worker.wiring import check_store

__all__ = ["check", "problems"]


@click.command()
@click.argument("app")
@connection_options()
@guarded
def check(*, app: str, store: str | None, broker: str | None, config: str | None) -> None:
    """Say everything that is wrong and can be seen without connecting: declarations, settings, URLs."""
    found: list[str] = []
    settings = None
    try:
        settings = Settings.load(config, store=store, broker=broker)
    except SettingsError as fault:
        found.append(str(fault))
    loaded = load_app(app)
    found += asyncio.run(problems(loaded, settings))
    if found:
        raise Stop(Code.CONFIGURATION, "\n".join(f"error: {line}" for line in found))
    count = len(loaded.handlers.declared)
    click.echo(f"{loaded.name}: {count} handler{'' if count == 1 else 's'}, nothing is wrong")


async def problems(app: App, settings: Settings | None) -> list[str]:
    """Return everything that is wrong, a line each.

    Args:
        app: what is declared.
        settings: where it will run; `None`: they are wrong themselves.
    """
    found = app.handlers.problems()
    if settings is None:
        return found
    names = {handler.name for handler in app.handlers.declared}
    found += [
        f"concurrency.{name}: there is no handler of this name"
        for name in settings.concurrency
        if name not in names
    ]
    try:
        connections = connect(app.name, settings, app.handlers.declared)
    except SettingsError as fault:
        return [*found, str(fault)]
    try:
        for handler in app.handlers.declared:
            try:
                check_store(connections.store, settings.store, [handler])
                check_resources(connections.store, settings.store, [handler], app.handlers.resources)
            except SettingsError as fault:
                found.append(str(fault))
        found += _of_webhooks(app, settings, connections)
    finally:
        await connections.close()
    return found


def _of_webhooks(app: App, settings: Settings, connections: Connections) -> list[str]:
    """Return why webhooks cannot go where the settings say, as `consumer ingest` would."""
    topics = [webhook.topic for webhook in app.handlers.webhooks]
    try:
        forwarder_of(app.name, settings, connections, topics, Untraced())
    except SettingsError as fault:
        return [str(fault)]
    return []
