"""`consumer migrate APP`."""

from __future__ import annotations

import asyncio

import click

from consumer.app import App
from consumer.cli.exits import guarded
from consumer.cli.loading import load_app
from consumer.cli.options import connection_options, one_shot_settings, outlasting
from consumer.errors import SettingsError
from consumer.settings import redacted
from consumer.stores import RaisesTokens, open_store
from consumer.worker.suited import check_resources
from consumer.worker.wiring import check_store

__all__ = ["migrate", "migrated"]

LARGEST_FLOOR = 2**62
"""Half of what the counters hold: far beyond what can have been handed out, and room enough after it."""


@click.command()
@click.argument("app")
@connection_options(broker=False)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@click.option(
    "--token-floor",
    type=click.IntRange(1, LARGEST_FLOOR),
    metavar="N",
    help="After restoring an older copy: hand out no fencing token up to N any more.",
)
@guarded
def migrate(
    *, app: str, store: str | None, config: str | None, dry_run: bool, token_floor: int | None
) -> None:
    """Create or renew the framework's tables and the application's own. Safe to repeat, and to run twice at once."""
    settings = one_shot_settings(config, store=store)
    outlasting(settings.store, "migrate")
    loaded = load_app(app)
    steps, own = asyncio.run(migrated(loaded, settings.store, dry_run=dry_run))
    for step in steps:
        click.echo(f"{'would do' if dry_run else 'done'}  {step}")
    if own:
        click.echo(
            f"{'would run' if dry_run else 'ran'} {own} statement{'' if own == 1 else 's'} of {loaded.name}'s own"
        )
    elif others := loaded.schema_dialects:
        click.echo(
            f"warning: {loaded.name} declares tables for {' and '.join(others)}, and none for this store",
            err=True,
        )
    if not steps:
        click.echo(f"{redacted(settings.store)}: the framework's tables are up to date")
    if token_floor is not None and dry_run:
        click.echo(f"would see that no token up to {token_floor} is handed out any more")
    elif token_floor is not None:
        last = asyncio.run(_raised(loaded, settings.store, token_floor))
        click.echo(f"no token up to {last} is handed out any more")


async def _raised(app: App, url: str, floor: int) -> int:
    store = open_store(url, app.name)
    try:
        if not isinstance(store, RaisesTokens):
            raise SettingsError(
                f"--token-floor: {redacted(url)} keeps no counter that a restored copy could set back; leave it out"
            )
        return await store.raise_tokens(floor)
    finally:
        await store.close()


async def migrated(app: App, url: str, *, dry_run: bool = False) -> tuple[list[str], int]:
    """Migrate a store; return the names of the steps, and how many statements of the application's own there are.

    Args:
        app: whose own tables are made too.
        url: of the store.
        dry_run: change nothing.

    Raises:
        SettingsError: the store refuses, or cannot keep what a handler promises; the text says what.
        StoreUnavailable: nobody answers.
    """
    store = open_store(url, app.name)
    own = app.own_schema(store.capabilities.dialect)
    try:
        check_store(store, url, app.handlers.declared)
        check_resources(store, url, app.handlers.declared, app.handlers.resources)
        return await store.migrate(own, dry_run=dry_run), len(own)
    finally:
        await store.close()
