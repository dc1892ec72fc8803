"""`consumer ingest APP`: takes HTTP requests and webhooks; landed messages are the workers' to run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import click

from consumer.app import App, Running
from consumer.cli.exits import Code, guarded, migrate_hint
from consumer.cli.loading import load_app
from consumer.cli.observer import Watcher
from consumer.cli.options import lasting_options, lasting_settings, webhooks_option
from consumer.cli.output import say
from consumer.cli.signals import Signals, end_now
from consumer.http.server import listening
from consumer.http.service import Service
from consumer.observe.health import Told
from consumer.observe.observed import Observed
from consumer.observe.server import serving
from consumer.settings import Settings, redacted

__all__ = ["ingest"]

ASK_EVERY = 0.1
"""Seconds between looks at whether it can accept already."""

PATIENCE = 2.0
"""Seconds that the health port waits for the event loop to say whether requests can be taken: below a probe's time-out."""


@click.command()
@click.argument("app")
@lasting_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: a free one."
)
@webhooks_option
@click.option(
    "--grace", type=float, metavar="S", help="Seconds that a shutdown waits for requests under way."
)
@guarded
def ingest(
    *,
    app: str,
    store: str | None,
    config: str | None,
    host: str,
    port: int,
    **flags: Any,
) -> None:
    """Serve endpoints, webhooks, /livez, /readyz, /startupz, /metrics and /openapi.json until SIGTERM; then finish what is under way.

    An endpoint runs its handler here; what a webhook lands is run by workers (`consumer run`), which publish, too.
    Prints one line that starts with `ready` when it can accept. While the store (or the broker, where webhooks go to
    it) is away it answers 503. --health-port serves the first four from a thread of its own too: they answer however
    many connections clients hold open.
    """
    settings = lasting_settings(config, store=store, **flags)
    loaded = load_app(app)
    with migrate_hint(app, store):
        asyncio.run(_main(loaded, settings, host, port))


async def _main(app: App, settings: Settings, host: str, port: int) -> None:
    signals = Signals(settings.grace)
    signals.install()
    observed = app.observed(settings, Watcher())
    service = _service(app, settings, observed)
    # Health first and last: an orchestrator may ask before the store has answered, and while requests are finished.
    with _health(settings, observed, service):
        await _serve(app, settings, signals, service, (host, port))
    if not service.clean:
        # Not by returning: the event loop would wait for the handler that does not end.
        end_now(Code.FAILED)


async def _serve(
    app: App, settings: Settings, signals: Signals, service: Service, where: tuple[str, int]
) -> None:
    async with service.lifespan(), listening(service, *where, grace=settings.grace) as address:
        line = (
            f"ready {app.name}: http://{address}, {len(app.handlers.endpoints)} endpoints,"
            f" {len(app.handlers.webhooks)} webhooks{_to(settings)}, store {redacted(settings.store)}, pid {os.getpid()}"
        )
        saying = asyncio.create_task(_say_when_ready(service, line))
        stopping = asyncio.create_task(signals.stopping.wait())
        broken = asyncio.create_task(service.failed())
        try:
            await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            saying.cancel()
            stopping.cancel()
            broken.cancel()


def _service(app: App, settings: Settings, observed: Observed) -> Service:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Running]:
        async with app.running(
            settings, consume=False, observer=observed, measured=True, serves=True
        ) as running:
            observed.opened(running.runtime, running.desk)
            yield running

    return app.serving(opened, observed)


@contextmanager
def _health(settings: Settings, observed: Observed, service: Service) -> Iterator[None]:
    """Watch the running event loop, and serve the health port where the settings name one."""
    loop = asyncio.get_running_loop()

    def answer(path: str) -> Told:
        # A loop that is held answers nothing: that is a reason which `observed` knows by itself.
        if path != "/readyz" or observed.health.hung():
            return observed.answer(path)
        asking = asyncio.run_coroutine_threadsafe(service.unready(), loop)
        try:
            return observed.answer(path, asking.result(PATIENCE))
        except TimeoutError:
            asking.cancel()
            return observed.answer(
                path, [f"the event loop or the store has not answered within {PATIENCE:g} s"]
            )

    with observed.watch.watching():
        if not settings.health_port:
            yield
            return
        with serving(answer, settings.health_host, settings.health_port):
            yield


def _to(settings: Settings) -> str:
    """Return where webhooks go, for the line that says ready: only where that is not the store."""
    return f" to {redacted(settings.broker)}" if settings.webhooks_to == "broker" else ""


async def _say_when_ready(service: Service, line: str) -> None:
    while not await service.ready():  # noqa: ASYNC110 - a store tells nobody when it is back
        await asyncio.sleep(ASK_EVERY)
    say(line)
