"""`consumer accept-history`: somebody answers for what a Redis may have lost."""

from __future__ import annotations

import asyncio

import click

from consumer.cli.exits import guarded, patiently
from consumer.cli.options import connection_options, not_blank, one_shot_settings
from consumer.errors import SettingsError
from consumer.settings import redacted
from consumer.stores import KeepsHistory, open_store

__all__ = ["accept_history"]


@click.command("accept-history")
@connection_options(broker=False)
@click.option(
    "--app", metavar="NAME", help="Whose name the store's log shows; a history is the whole store's."
)
@click.option(
    "--reason",
    metavar="TEXT",
    required=True,
    callback=not_blank,
    help="What was compared or decided; kept in the store.",
)
@guarded
def accept_history(*, store: str | None, config: str | None, app: str | None, reason: str) -> None:
    """Let claims go on in a Redis that may have lost some: after a fail-over, a restore, or when it was emptied.

    Keys whose claims were lost start again when they are delivered again: compare with the outside world first.
    """
    url = one_shot_settings(config, store=store).store
    wrong = asyncio.run(_accepted(url, app or "", reason))
    for why in wrong:
        click.echo(f"accepted: {why}")
    if not wrong:
        click.echo("nothing was wrong; the reason is written down all the same")


async def _accepted(url: str, app: str, reason: str) -> list[str]:
    opened = open_store(url, app)
    if not isinstance(opened, KeepsHistory):
        raise SettingsError(
            f"store={redacted(url)!r}: only Redis can lose its history without its knowledge; nothing is to accept here"
        )
    try:
        await patiently(redacted(url), opened.open(check=False))
        return await opened.accept_history(reason)
    finally:
        await opened.close()
