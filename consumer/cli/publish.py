"""`consumer publish APP TOPIC`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, BinaryIO

import click

from consumer.cli.exits import guarded, migrate_hint
from consumer.cli.loading import load_app
from consumer.cli.options import connection_options, one_shot_settings, raw
from consumer.cli.publishing import Publisher, batches, lines_of, publisher
from consumer.declare.names import check_topic, checked_tenant
from consumer.errors import ConsumerError
from consumer.message import Headers, Outgoing
from consumer.rules.keys import BadKey

__all__ = ["publish"]


@click.command()
@click.argument("app")
@click.argument("topic")
@click.argument("json", required=False)
@connection_options()
@click.option(
    "--file",
    "file",
    type=click.File("rb"),
    help="One JSON value a line; - is stdin. Blank lines are left out.",
)
@click.option(
    "--key-field", metavar="NAME", help="This field's value is the record key and the ordering key."
)
@click.option(
    "--ordering-key-field", metavar="NAME", help="Another name for --key-field: a record has one of them."
)
@click.option(
    "--header", "headers", metavar="K=V", multiple=True, help="A header of every message; repeatable."
)
@click.option("--tenant", metavar="NAME", help="The same as --header tenant=NAME.")
@click.option(
    "--unrouted", is_flag=True, help="Also to an embedded topic without a handler: its messages go nowhere."
)
@guarded
def publish(
    *,
    app: str,
    topic: str,
    json: str | None,
    store: str | None,
    broker: str | None,
    config: str | None,
    file: BinaryIO | None,
    key_field: str | None,
    ordering_key_field: str | None,
    headers: tuple[str, ...],
    tenant: str | None,
    unrouted: bool,
) -> None:
    """Publish messages to TOPIC, byte for byte: JSON, or a line each of --file. Nothing is validated here.

    Every message is durable when the command says `published N`. After a failure it is safe to publish all again:
    the handlers' keys take care of the second ones.
    """
    if (json is None) == (file is None):
        raise click.UsageError("give one JSON value, or --file (- is stdin)")
    if key_field and ordering_key_field and key_field != ordering_key_field:
        raise click.UsageError(
            "--key-field and --ordering-key-field name different fields; the record key orders"
        )
    try:
        check_topic(topic)
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    pairs = _headers(headers, tenant)
    settings = one_shot_settings(config, store=store, broker=broker)
    loaded = load_app(app)
    values = [raw(json)] if json is not None else lines_of(file) if file is not None else []
    with _progress(file) as advance:
        groups = batches(_counted(values, advance), topic, pairs, key_field or ordering_key_field)
        with migrate_hint(app, store):
            published = asyncio.run(
                _publish_all(publisher(loaded, settings, topic, unrouted=unrouted), groups)
            )
    click.echo(f"published {published}")


async def _publish_all(
    to_where: AbstractAsyncContextManager[Publisher], groups: Iterable[list[Outgoing]]
) -> int:
    published = 0
    async with to_where as to:
        for group in groups:
            try:
                await to.publish(group)
            except ConsumerError:
                if published:
                    click.echo(f"published {published} before this:", err=True)
                raise
            published += len(group)
    return published


def _headers(given: tuple[str, ...], tenant: str | None) -> Headers:
    pairs: list[tuple[str, bytes]] = []
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--header {each!r}: write NAME=VALUE")
        pairs.append((name, raw(value)))
    if tenant is not None:
        try:
            pairs.append(("tenant", checked_tenant(tenant).encode()))
        except BadKey as fault:
            raise click.UsageError(f"--{fault}") from None
    return tuple(pairs)


def _counted(values: Iterable[bytes], advance: Callable[[int], Any]) -> Iterator[bytes]:
    for value in values:
        yield value
        advance(len(value) + 1)


@contextmanager
def _progress(file: BinaryIO | None) -> Iterator[Callable[[int], Any]]:
    """Show a progress bar on stderr while a file is published, on a terminal only."""
    if file is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal to draw on
    from rich.progress import Progress  # noqa: PLC0415

    try:
        size = os.fstat(file.fileno()).st_size or None
    except OSError:
        size = None
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("publishing", total=size)
        yield lambda count: bar.advance(task, count)
