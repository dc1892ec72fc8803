"""`consumer try APP TOPIC JSON`: the promise, seen on one's own code in a minute."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import click

from consumer.app import App
from consumer.cli.exits import Code, Stop, guarded
from consumer.cli.loading import load_app
from consumer.cli.options import one_shot_settings, raw
from consumer.cli.output import printable
from consumer.cli.trial import Trial, Trialled
from consumer.declare.handlers import Handler
from consumer.declare.names import checked_tenant
from consumer.declare.options import mode_text
from consumer.entry import Entry, State
from consumer.message import Headers, Outgoing
from consumer.operate.explain import crash_of, promise_of
from consumer.operate.shown import key_text
from consumer.path.keying import in_transaction
from consumer.rules.keys import BadKey

__all__ = ["try_"]


@click.command("try")
@click.argument("app")
@click.argument("topic")
@click.argument("json")
@click.option("--tenant", metavar="NAME", help="A header tenant=NAME for the message.")
@guarded
def try_(*, app: str, topic: str, json: str, tenant: str | None) -> None:
    """Deliver one message three times, then kill the handler half-way, and print what its mode made of that.

    On a throw-away SQLite store, but with your handlers as they are: what they do to the rest of the world they do.
    """
    one_shot_settings(None)
    loaded = load_app(app)
    loaded.handlers.check()
    headers = _headers(tenant)
    handlers = [handler for handler in loaded.handlers.declared if topic in handler.topics]
    if not handlers:
        topics = sorted({name for handler in loaded.handlers.declared for name in handler.topics})
        raise Stop(Code.NOT_FOUND, f"nobody subscribes to {topic!r}; there are: {', '.join(topics)}")
    message = Outgoing(bytes(16), topic, raw(json), headers)
    asyncio.run(_try_all(loaded, app, handlers, message))


async def _try_all(app: App, name: str, handlers: list[Handler], message: Outgoing) -> None:
    for handler in handlers:
        click.echo(f"{handler.name}  {mode_text(handler.mode)}  {handler.where}")
        click.echo(f"  {promise_of(handler)}")
        for title, kill in (
            ("delivered 3 times", False),
            ("killed (SIGKILL) when the handler had run and not yet returned, then started again", True),
        ):
            with tempfile.TemporaryDirectory(prefix="consumer-try-") as folder:
                trial = Trial(app, name, handler, message, Path(folder))
                ended = await (trial.kill() if kill else trial.thrice())
            click.echo(f"\n  {title}")
            _report(handler, ended, killed=kill)
        click.echo()


def _report(handler: Handler, ended: Trialled, *, killed: bool) -> None:
    if killed and not ended.killed:
        click.echo("    nothing       the handler does not start for this message: there is nothing to kill")
        return
    click.echo(f"    started       {ended.starts} time{'' if ended.starts == 1 else 's'}")
    entry = ended.entry
    if entry is None:
        click.echo("    entry         none")
        return
    _report_entry(entry)
    if entry.attempts and ended.starts > entry.attempts and in_transaction(handler):
        uncounted = ended.starts - entry.attempts
        click.echo(
            f"    not counted   {uncounted} start{'' if uncounted == 1 else 's'} in a group that was rolled back: "
            "no attempt, nothing of it has happened"
        )
    if killed:
        click.echo(f"    a crash is    {crash_of(handler)}")
    if entry.state not in {State.DONE, State.DEAD, State.IN_DOUBT}:
        click.echo("    not at rest   it did not come to its end in the time that a trial has")


def _report_entry(entry: Entry) -> None:
    word = "in doubt" if entry.state is State.IN_DOUBT else entry.state.word
    click.echo(f"    key           {printable(key_text(entry.key))} (tenant {entry.tenant})")
    click.echo(f"    state         {word}, attempt {entry.attempts}")
    if entry.reason:
        click.echo(f"    reason        {printable(entry.reason)}")
    if entry.result is not None:
        click.echo(f"    result        {printable(entry.result.decode(errors='backslashreplace'))}")
    if entry.state is State.IN_DOUBT:
        click.echo("    what now      nobody knows whether it had its effect, so it is not started again;")
        click.echo(
            "                  who knows says so: consumer inbox resolve KEY --as done|not-done|dead --reason …"
        )


def _headers(tenant: str | None) -> Headers:
    if tenant is None:
        return ()
    try:
        return (("tenant", checked_tenant(tenant).encode()),)
    except BadKey as fault:
        raise click.UsageError(f"--{fault}") from None
