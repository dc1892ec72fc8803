"""A process' sign of life, and what becomes of the claims of a process that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from consumer.entry import State

__all__ = ["Adopted", "Workers"]


class Adopted(msgspec.Struct, frozen=True, gc=False):
    """What a lapse made of one entry."""

    identity: bytes
    handler: str
    key: bytes
    state: State


class Workers(Protocol):
    """One row (or lock file) per process. A closed worker never revives."""

    async def open(self, ttl: float, about: str) -> int:
        """Make a worker of this app and return its number, which is higher than every earlier one of this store.

        Args:
            ttl: seconds without a beat, by the store's clock, after which others may close it.
            about: host and process id, for people.
        """
        ...

    async def beat(self, worker: int) -> bool:
        """Renew the sign of life. `False`: the worker is closed, for ever: nothing of its claims may be started."""
        ...

    async def close(self, worker: int) -> None:
        """End the worker cleanly: its process says that it runs nothing any more."""
        ...

    async def others(self, worker: int) -> dict[int, float]:
        """The open workers of this app but `worker`, each with a number that grows with every beat of it."""
        ...

    async def lapse(self) -> list[int]:
        """Close every worker of this app whose sign of life is older than its time-to-live, by compare-and-set.

        Counted from the later of its last beat and the store's start. Returns all unclean closed workers that may still
        hold claims, those of earlier calls too.
        """
        ...

    async def lapsed(self, since: int) -> set[int]:
        """Which workers of this app ended by a lapse, among those of the number `since` and above.

        A worker that was closed by its own process is never among them, and one that `lapse` has closed always is, on
        every handle, with or without claims, until the store forgets it (days later).

        Args:
            since: the lowest number that is asked about.
        """
        ...

    async def adopt(self, limit: int, patience: Mapping[str, float] | None = None) -> list[Adopted]:
        """Apply `on_lapse` to up to `limit` running entries of closed workers; each gets the story line `lapse`.

        `IN_DOUBT`: in doubt, due for reconcile after its patience. `WAITING`: waiting and due now, the attempt counts; dead
        where `attempts >= budget`. The token stays: a late settlement of an in-doubt entry is accepted.

        Args:
            limit: how many at most.
            patience: per handler, seconds from now before `reconcile` may be asked: its time-out, for a worker that is
                only paused may still be running it. 0 where it is not named.
        """
        ...

    async def claims(self, worker: int) -> list[tuple[bytes, int, str]]:
        """The running entries of `worker` as (identity, token, handler), to compare with what it really runs."""
        ...
