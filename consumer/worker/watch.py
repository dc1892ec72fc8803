"""A handler that ignores its cancellation must not hold its lane for ever: after a grace the lane goes on without it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from consumer.path.parts import Attempt, Parts

__all__ = ["GRACE", "Abandoned", "watched"]

GRACE = 2.0
"""Seconds that a handler may take to end after it was asked to (its time-out cancels it)."""

_T = TypeVar("_T")
_log = logging.getLogger("consumer.watch")


class Abandoned(Exception):
    """A handler still runs although its time-out and the grace are over. Its transaction was rolled back.

    Args:
        attempt: what runs on; its Tx is of no use any more.
    """

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(f"{attempt.work.handler.name}: the handler ignores its cancellation")
        self.attempt = attempt


async def watched(parts: Parts, path: Coroutine[Any, Any, _T], left_behind: set[asyncio.Task[Any]]) -> _T:
    """Run a group to its end, or until one of its handlers ignores its cancellation.

    Args:
        parts: what the path works with.
        path: the group's coroutine.
        left_behind: the tasks that were given up and still run; they leave the set when they end.

    Raises:
        Abandoned: the group's transaction is rolled back; nothing of it has happened.
    """
    task = asyncio.ensure_future(path)
    try:
        while True:
            running = parts.running.get(task)
            now = parts.clock.monotonic()
            limit = 1.0 if running is None else max(running.deadline + GRACE - now, 0.05)
            done, _ = await asyncio.wait({task}, timeout=min(limit, 1.0))
            if done:
                return task.result()
            running = parts.running.get(task)
            if running is not None and parts.clock.monotonic() >= running.deadline + GRACE:
                running.abandoned = True
                left_behind.add(task)
                task.add_done_callback(lambda ended: _forget(ended, left_behind))
                _log.error(
                    "%s ignores its cancellation; its transaction is rolled back", running.work.handler.where
                )
                if running.group is not None:
                    await running.group.rollback()
                raise Abandoned(running)
    except asyncio.CancelledError:
        parts.stop(task)
        await asyncio.wait({task}, timeout=GRACE)
        raise


def _forget(task: asyncio.Task[Any], left_behind: set[asyncio.Task[Any]]) -> None:
    left_behind.discard(task)
    if not task.cancelled() and task.exception() is not None:
        _log.info("an abandoned handler has ended: %r", task.exception())
