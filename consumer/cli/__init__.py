"""The command line: `consumer VERB …`. `docs/cli.md` is its contract; every verb is a small file of its own."""

from __future__ import annotations

import click

from consumer.cli.accept_history import accept_history
from consumer.cli.check import check
from consumer.cli.explain import explain
from consumer.cli.inbox import inbox
from consumer.cli.ingest import ingest
from consumer.cli.migrate import migrate
from consumer.cli.outbox import outbox
from consumer.cli.publish import publish
from consumer.cli.relay import relay
from consumer.cli.run import run
from consumer.cli.try_ import try_

__all__ = ["main"]

_VERBS = (run, ingest, relay, migrate, publish, check, explain, try_, inbox, outbox, accept_history)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="idempotent-consumer", message="%(version)s")
def main() -> None:
    """Run handlers under one key per operation, and look after their entries.

    APP is `module:attribute`, as in `shop.app:app`; the working directory is importable.
    Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 ambiguous, 69 unavailable, 70 a bug, 78 configuration.
    """


for _verb in _VERBS:
    main.add_command(_verb)
