"""The worker process of `consumer try`: one handler watched, and killed where that is asked for.

It ends when its stdin does, so that it never outlives the command that started it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from consumer.app import App
from consumer.cli.loading import load_app
from consumer.cli.logs import configure
from consumer.cli.observer import Watcher
from consumer.cli.signals import end_now
from consumer.declare.handlers import Handler
from consumer.settings import Settings
from consumer.worker.wiring import LONGEST_SQLITE_TIMEOUT

__all__ = ["watched"]

_TTL = 2.0
_GRACE = 1.0


def main(arguments: list[str]) -> None:
    """Run: APP STORE JOURNAL HANDLER live|kill."""
    name, url, journal, handler, fate = arguments
    configure("human", "error")
    app = load_app(name)
    handlers = [watched(each, handler, journal, kill=fate == "kill") for each in app.handlers.declared]
    asyncio.run(_run(app, handlers, url))


def watched(handler: Handler, name: str, journal: str, *, kill: bool) -> Handler:
    """Return a handler that writes each of its starts into `journal`, and perhaps kills its process before it returns.

    Args:
        handler: as declared.
        name: of the handler that is tried; others run as they are.
        journal: a file, a line per start.
        kill: SIGKILL this process when the function is over, whatever it returned or raised.
    """
    timeout = min(handler.timeout, LONGEST_SQLITE_TIMEOUT)
    if handler.name != name:
        return dataclasses.replace(handler, timeout=timeout)
    function: Callable[..., Any] = handler.function

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        _append(journal)
        try:
            return await function(*args, **kwargs)
        finally:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)

    return dataclasses.replace(handler, function=wrapper, timeout=timeout)


async def _run(app: App, handlers: list[Handler], url: str) -> None:
    settings = Settings(store=url, broker="embedded:", worker_ttl=_TTL, grace=_GRACE)
    stopping = asyncio.Event()
    threading.Thread(target=_listen, args=(asyncio.get_running_loop(), stopping), daemon=True).start()
    async with app.running(settings, consume=True, handlers=handlers, observer=Watcher()) as running:
        stop = asyncio.create_task(stopping.wait())
        failed = asyncio.create_task(running.runtime.failed())
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        failed.cancel()
    if not running.clean:
        end_now(1)


def _listen(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(stopping.set)


def _append(journal: str) -> None:
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, b"start\n")
    finally:
        os.close(file)


if __name__ == "__main__":
    main(sys.argv[1:])
