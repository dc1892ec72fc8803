"""Ports that kill their process at a named point: the product has no failpoints, its edges have."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from consumer.entry import Answer, Claim, Kind, Settle, Settled, Won
from consumer.message import Delivery
from tests.crash.plan import ACK, AFTER_CLAIM, AFTER_COMMIT, BEFORE_CLAIM, BEFORE_COMMIT, Plan

__all__ = ["Killer", "MortalSource", "MortalStore"]


class Killer:
    """Counts how often the process comes to its point, and kills it at the planned time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen = 0

    def at(self, point: str) -> None:
        if point == self._plan.point:
            self._seen += 1
            if self._seen == self._plan.nth:
                self.kill()

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore:
    """A store whose claims and commits may be the last thing that the process does."""

    def __init__(self, store: Any, killer: Killer) -> None:
        self._store = store
        self.inbox = _Inbox(store.inbox, killer)
        self.groups = _Groups(store.groups, killer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Inbox:
    def __init__(self, inbox: Any, killer: Killer) -> None:
        self._inbox = inbox
        self._killer = killer
        self.look = inbox.look

    async def turn(
        self, worker: int, settles: Sequence[Settle], claims: Sequence[Claim]
    ) -> tuple[list[Settled], list[Answer]]:
        completes = any(settle.kind is Kind.COMPLETE for settle in settles)
        if claims:
            self._killer.at(BEFORE_CLAIM)
        if completes:
            self._killer.at(BEFORE_COMMIT)
        settled, answers = await self._inbox.turn(worker, settles, claims)
        if completes:
            self._killer.at(AFTER_COMMIT)
        if any(isinstance(answer, Won) for answer in answers):
            self._killer.at(AFTER_CLAIM)
        return settled, answers


class _Groups:
    def __init__(self, groups: Any, killer: Killer) -> None:
        self._groups = groups
        self._killer = killer
        self.lanes = groups.lanes

    async def open(self) -> Any:
        return _Group(await self._groups.open(), self._killer)


class _Group:
    def __init__(self, group: Any, killer: Killer) -> None:
        self._group = group
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    async def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        self._killer.at(BEFORE_CLAIM)
        answers: list[Answer] = await self._group.claim(claims)
        self._killer.at(AFTER_CLAIM)
        return answers

    async def commit(self) -> None:
        self._killer.at(BEFORE_COMMIT)
        await self._group.commit()
        self._killer.at(AFTER_COMMIT)


class MortalSource:
    """A source that is asked to acknowledge in the process' last moment."""

    def __init__(self, source: Any, killer: Killer) -> None:
        self._source = source
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def ack(self, delivery: Delivery) -> None:
        self._killer.at(ACK)
        self._source.ack(delivery)
