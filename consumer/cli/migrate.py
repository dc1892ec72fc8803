"""`consumer migrate APP`."""

from __future__ import annotations

import asyncio

import click

from consumer.app import App
from consumer.cli.exits import guarded
from consumer.cli.loading import load_app
from consumer.cli.options import connection_options, one_shot_settings
from consumer.settings import redacted
from consumer.stores import open_store

__all__ = ["migrate", "migrated"]


@click.command()
@click.argument("app")
@connection_options(broker=False)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@guarded
def migrate(*, app: str, store: str | None, config: str | None, dry_run: bool) -> None:
    """Create or renew the framework's tables and the application's own. Safe to repeat, and to run twice at once."""
    settings = one_shot_settings(config, store=store)
    loaded = load_app(app)
    steps, own = asyncio.run(migrated(loaded, settings.store, dry_run=dry_run))
    for step in steps:
        click.echo(f"{'would do' if dry_run else 'done'}  {step}")
    if own:
        click.echo(f"{'would run' if dry_run else 'ran'}  {own} statements of {loaded.name}'s own")
    if not steps:
        click.echo(f"{redacted(settings.store)}: the framework's tables are up to date")


async def migrated(app: App, url: str, *, dry_run: bool = False) -> tuple[list[str], int]:
    """Migrate a store; return the names of the steps, and how many statements of the application's own there are.

    Args:
        app: whose own tables are made too.
        url: of the store.
        dry_run: change nothing.

    Raises:
        SettingsError: the store refuses; the text says what.
        StoreUnavailable: nobody answers.
    """
    store = open_store(url, app.name)
    own = app.own_schema(store.capabilities.dialect)
    try:
        return await store.migrate(own, dry_run=dry_run), len(own)
    finally:
        await store.close()
