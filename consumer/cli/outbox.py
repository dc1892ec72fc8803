"""`consumer outbox list|show|redrive`: what waits to be published, and what the broker refused."""

from __future__ import annotations

import click

from consumer.cli.exits import Code, Stop, guarded
from consumer.cli.options import connection_options
from consumer.cli.output import format_option, show_one, show_rows
from consumer.cli.reaching import ask, chosen_app
from consumer.operate.inspect import find_outgoing
from consumer.operate.shown import outgoing_detail, outgoing_row
from consumer.ports.operator import Operator
from consumer.ports.outbox import Pending

__all__ = ["outbox"]

_app = click.option("--app", metavar="NAME", help="Only this app's; default: of all apps in the store.")
_COLUMNS = ["seq", "app", "topic", "ordering_key", "created_at", "bytes", "parked"]


@click.group()
def outbox() -> None:
    """Look at outgoing messages. SEQ is a sequence number, or a message id."""


@outbox.command("list")
@connection_options(broker=False)
@_app
@click.option(
    "--parked/--waiting", default=None, help="Only those set aside, or only the others; default: all."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="At most so many, the oldest; default: all."
)
@format_option
@guarded
def list_(
    *,
    store: str | None,
    config: str | None,
    app: str | None,
    limit: int | None,
    output: str,
    parked: bool | None,
) -> None:
    """List outgoing messages, oldest first."""

    async def work(operator: Operator) -> list[Pending]:
        return await operator.outgoing(app=await _known(operator, app), parked=parked, limit=limit)

    found = ask(store, config, work, patience=None)
    show_rows([outgoing_row(pending) for pending in found], output, _COLUMNS)


@outbox.command()
@click.argument("seq")
@connection_options(broker=False)
@_app
@format_option
@guarded
def show(*, seq: str, store: str | None, config: str | None, app: str | None, output: str) -> None:
    """Show one outgoing message."""
    show_one(outgoing_detail(ask(store, config, lambda operator: _found(operator, seq, app))), output)


@outbox.command()
@click.argument("seqs", metavar="SEQ...", nargs=-1, required=True)
@connection_options(broker=False)
@_app
@guarded
def redrive(*, seqs: tuple[str, ...], store: str | None, config: str | None, app: str | None) -> None:
    """Let parked messages be published again, after their cause is mended."""

    async def work(operator: Operator) -> int:
        found = [await _found(operator, seq, app) for seq in dict.fromkeys(seqs)]
        for pending in found:
            if pending.parked is None:
                raise Stop(
                    Code.FAILED,
                    f"error: message {pending.seq} is not parked: the relay publishes it by itself",
                )
        return await operator.unpark([pending.seq for pending in found])

    click.echo(f"redriven {ask(store, config, work)}")


async def _known(operator: Operator, app: str | None) -> str | None:
    """Return the app that was named, which must be there; `None`: none was."""
    return None if app is None else await chosen_app(operator, app)


async def _found(operator: Operator, seq: str, app: str | None) -> Pending:
    pending = await find_outgoing(operator, seq, await _known(operator, app))
    if pending is None:
        raise Stop(Code.NOT_FOUND, f"no message {seq!r} in the outbox (what was published is not kept)")
    return pending
