"""`consumer inbox list|show|resolve|redrive|purge`: on the store alone, no application is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from consumer.cli.exits import Code, Stop, guarded
from consumer.cli.options import connection_options, duration, not_blank, raw
from consumer.cli.output import format_option, show_one, show_rows
from consumer.cli.reaching import ask, chosen_app, the_entry
from consumer.entry import Entry, State
from consumer.operate import resolve as decisions
from consumer.operate.inspect import find
from consumer.operate.shown import detail_of, row_of
from consumer.ports.operator import Operator

__all__ = ["inbox"]

F = TypeVar("F", bound=Callable[..., Any])

_STATES = [state.word for state in State if state is not State.ABSENT]
_COLUMNS = ["handler", "tenant", "key", "id", "state", "attempts", "created_at", "reason"]

LONGEST_SHOWN = 40
"""Characters of a key in a table; of a longer one its beginning and its end are shown."""

_app = click.option("--app", metavar="NAME", help="The app, where the store holds several.")
_handler = click.option("--handler", metavar="NAME", help="Only this handler's.")
_tenant = click.option("--tenant", metavar="NAME", help="Only this tenant's.")
_reason = click.option(
    "--reason", metavar="TEXT", callback=not_blank, required=True, help="Why; kept in the entry's story."
)


def _narrowing(function: F) -> F:
    for option in (_tenant, _handler, _app, connection_options(broker=False)):
        function = option(function)
    return function


@click.group()
def inbox() -> None:
    """Look at entries, end doubts, redrive dead letters.

    KEY is a raw key, or an entry's id. A key that exactly one entry has means that entry, also where dead letters of
    conflicts carry the same key.
    """


@inbox.command("list")
@_narrowing
@click.option(
    "--lane", metavar="KEY", help="Only what has this ordering key, at ordered handlers: what waits there."
)
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; repeatable.")
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
    handler: str | None,
    tenant: str | None,
    lane: str | None,
    states: tuple[str, ...],
    limit: int | None,
    output: str,
) -> None:
    """List entries, oldest first. With --lane, `behind` is the id of the entry that holds the others up."""
    chosen = [state for state in State if state.word in states]

    async def work(operator: Operator) -> list[Entry]:
        name = await chosen_app(operator, app)
        return await operator.entries(
            app=name,
            states=chosen,
            handler=handler,
            tenant=tenant,
            lane=None if lane is None else raw(lane),
            limit=limit,
        )

    rows = [row_of(entry) for entry in ask(store, config, work, patience=None)]
    if output == "table":
        rows = [_in_a_table(row, named=lane is not None) for row in rows]
    columns = [name for name in _COLUMNS if name != "id" or any(row["id"] for row in rows)]
    show_rows(rows, output, columns if lane is None else [*columns, "behind"])


@inbox.command()
@click.argument("key")
@_narrowing
@format_option
@guarded
def show(
    *,
    key: str,
    store: str | None,
    config: str | None,
    app: str | None,
    handler: str | None,
    tenant: str | None,
    output: str,
) -> None:
    """Show one entry: its state, result, message and story."""

    async def work(operator: Operator) -> Entry:
        return await _found(operator, key, app, handler, tenant)

    show_one(detail_of(ask(store, config, work)), output)


@inbox.command()
@click.argument("key")
@_narrowing
@click.option(
    "--as", "word", type=click.Choice(list(decisions.RESOLUTIONS)), required=True, help="What happened."
)
@_reason
@click.option("--result", metavar="JSON", help="With --as done: what the handler would have returned.")
@guarded
def resolve(
    *,
    key: str,
    store: str | None,
    config: str | None,
    app: str | None,
    handler: str | None,
    tenant: str | None,
    word: str,
    reason: str,
    result: str | None,
) -> None:
    """End a doubt: done (it had its effect), not-done (one new start), dead (never again)."""
    encoded = _result(word, result)

    async def work(operator: Operator) -> Entry:
        entry = await _found(operator, key, app, handler, tenant)
        _refuse(await decisions.resolve(operator, entry, word, reason, encoded))
        return entry

    entry = ask(store, config, work)
    click.echo(f"resolved as {word}: {entry.handler} {entry.identity.hex()}")
    if word == "not-done" and entry.message is None:
        click.echo("its bytes are not here: it starts when its message is delivered again", err=True)


@inbox.command()
@click.argument("key")
@_narrowing
@_reason
@guarded
def redrive(
    *,
    key: str,
    store: str | None,
    config: str | None,
    app: str | None,
    handler: str | None,
    tenant: str | None,
    reason: str,
) -> None:
    """Let a dead letter start anew; its attempts are counted from 0 again."""

    async def work(operator: Operator) -> Entry:
        entry = await _found(operator, key, app, handler, tenant)
        _refuse(await decisions.redrive(operator, entry, reason))
        return entry

    entry = ask(store, config, work)
    click.echo(f"redriven: {entry.handler} {entry.identity.hex()}")


@inbox.command()
@connection_options(broker=False)
@_app
@click.option("--handler", metavar="NAME", required=True, help="Whose.")
@click.option(
    "--older-than",
    metavar="AGE",
    callback=duration,
    required=True,
    help="Since their creation: 90s, 30m, 12h, 14d, 2w.",
)
@guarded
def purge(*, store: str | None, config: str | None, app: str | None, handler: str, older_than: float) -> None:
    """Forget done entries before their retention is over. Dead ones and those in doubt stay."""

    async def work(operator: Operator) -> int:
        name = await chosen_app(operator, app)
        if name is None:
            return 0
        return await decisions.purge(operator, app=name, handler=handler, older_than=older_than)

    click.echo(f"purged {ask(store, config, work, patience=None)}")


async def _found(
    operator: Operator, key: str, app: str | None, handler: str | None, tenant: str | None
) -> Entry:
    name = await chosen_app(operator, app)
    return the_entry(await find(operator, raw(key), app=name, handler=handler, tenant=tenant), key)


def _refuse(why_not: str | None) -> None:
    if why_not is not None:
        raise Stop(Code.FAILED, f"error: {why_not}")


def _result(word: str, result: str | None) -> bytes | None:
    if result is None:
        return None
    if word != "done":
        raise click.UsageError("--result goes with --as done only")
    try:
        msgspec.json.decode(raw(result))
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise click.UsageError(f"--result is no JSON: {fault}") from None
    return raw(result)


def _in_a_table(row: dict[str, Any], *, named: bool) -> dict[str, Any]:
    """Return a row for people: its key short enough for a line, and its id only where the key does not name the entry.

    Args:
        row: of an entry.
        named: its id is shown whatever its key is.
    """
    key = row["key"]
    long = len(key) > LONGEST_SHOWN
    if long:
        key = f"{key[: LONGEST_SHOWN // 2]}…{key[-LONGEST_SHOWN // 2 + 1 :]}"
    # A conflict's dead letter carries the key of the entry that it is in conflict with, which the key means.
    return row | {"key": key, "id": row["id"] if named or long or not row["keyed"] else None}
