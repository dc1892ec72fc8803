"""Outgoing messages, committed with their entries, on their way to a sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from consumer.message import Outgoing

__all__ = ["Outbox", "Pending"]


class Pending(msgspec.Struct, frozen=True, gc=False):
    """An outgoing message in the outbox.

    Attributes:
        seq: its place in the order of insertion; also the header `message-sequence`.
        outgoing: what to publish; `delay` is 0 by now.
        parked: why it is parked, else `None`.
        created_at: seconds since 1970 by the store's clock.
        app: whose handler published it.
    """

    seq: int
    outgoing: Outgoing
    parked: str | None = None
    created_at: float = 0.0
    app: str = ""


class Outbox(Protocol):
    """Row state, not a cursor: what is not sent is there, whenever it was committed."""

    async def take(self, worker: int, limit: int) -> list[Pending]:
        """The oldest unsent messages that are due, at most `limit`, of the shards that `worker` owns.

        A shard has one owner at a time. Shards are shared out evenly among the open workers that ask: whoever owns more
        than its share gives up the rest by this call, and free ones, and those of closed workers, become `worker`'s up to
        its share. So ask only when nothing that was taken before is still on its way to the sink. Left out: parked messages, and every later one of the same (topic, ordering key) as a parked or not yet due one.
        Repeatable: what was taken and not marked comes again.
        """
        ...

    async def sent(self, seqs: Sequence[int]) -> None:
        """Forget these: the sink has acknowledged them. Idempotent."""
        ...

    async def park(self, parked: Sequence[tuple[int, str]]) -> None:
        """Set messages aside that the sink refuses for good ((seq, reason)); they hold back their ordering key only."""
        ...
