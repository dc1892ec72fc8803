"""Calls that arrive one by one share one commit: what comes while a batch is under way makes up the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Coalesced"]

T = TypeVar("T")
R = TypeVar("R")

LARGEST = 500
"""Items of one batch: enough for the rate of a commit to stop mattering, short enough to stay a short transaction."""


class Coalesced(Generic[T, R]):
    """A batch verb (`Arrivals.land`), for callers that have little each.

    One batch is under way at a time. A caller that goes away does not take its items back: they may be written already.

    Args:
        verb: takes a sequence, and answers in its order.
        largest: items of one batch; what one caller brings is never torn apart.
    """

    def __init__(self, verb: Callable[[Sequence[T]], Awaitable[Sequence[R]]], largest: int = LARGEST) -> None:
        self._verb = verb
        self._largest = largest
        self._waiting: deque[tuple[Sequence[T], asyncio.Future[list[R]]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.batches = 0

    async def __call__(self, items: Sequence[T]) -> list[R]:
        """Do the verb for `items`, together with whatever else is asked now.

        Raises:
            Exception: what the verb raised, for everybody in its batch.
        """
        if not items:
            return []
        answer: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="coalesced")
        return await asyncio.shield(answer)

    @property
    def waiting(self) -> int:
        """How many callers wait for a batch to begin."""
        return len(self._waiting)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever is ready to run now joins the first batch
            while self._waiting:
                await self._batch(self._next())
        finally:
            self._task = None
            # Only a cancellation leaves anybody here: nobody may wait for ever.
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting.clear()

    def _next(self) -> list[tuple[Sequence[T], asyncio.Future[list[R]]]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= self._largest:
            batch.append(self._waiting.popleft())
            size += len(batch[-1][0])
        return batch

    async def _batch(self, batch: Sequence[tuple[Sequence[T], asyncio.Future[list[R]]]]) -> None:
        self.batches += 1
        items = [item for part, _ in batch for item in part]
        try:
            answers = list(await self._verb(items))
        except BaseException as fault:
            for _, answer in batch:
                if not answer.done():
                    if isinstance(fault, Exception):
                        answer.set_exception(fault)
                        answer.exception()  # its caller may be gone: then nobody is left to be told
                    else:
                        answer.cancel()
            if not isinstance(fault, Exception):
                raise
            return
        done = 0
        for part, answer in batch:
            if not answer.done():
                answer.set_result(answers[done : done + len(part)])
            done += len(part)
