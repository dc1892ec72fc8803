"""`consumer explain APP`."""

from __future__ import annotations

import asyncio

import click

from consumer.app import App
from consumer.cli.exits import guarded, patiently
from consumer.cli.loading import load_app
from consumer.cli.options import connection_options, one_shot_settings
from consumer.operate.explain import explain as explained
from consumer.ports.store import Capabilities
from consumer.settings import redacted
from consumer.stores import open_store

__all__ = ["explain"]


@click.command()
@click.argument("app")
@connection_options(broker=False)
@guarded
def explain(*, app: str, store: str | None, config: str | None) -> None:
    """Say in words what every handler promises, and what this store takes away from it.

    With --store the store is asked; without, only what its kind can do is known.
    """
    settings = one_shot_settings(config, store=store)
    loaded = load_app(app)
    loaded.handlers.check()
    capabilities = asyncio.run(_capabilities(loaded, settings.store, ask=store is not None))
    click.echo(f"{loaded.name} on {redacted(settings.store)}")
    for handler in loaded.handlers.declared:
        click.echo()
        click.echo(explained(handler, capabilities))


async def _capabilities(app: App, url: str, *, ask: bool) -> Capabilities:
    opened = open_store(url, app.name)
    try:
        if ask:
            await patiently(redacted(url), opened.open(check=False))
        return opened.capabilities
    finally:
        await opened.close()
