"""The outbox in memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from consumer.message import Outgoing
from consumer.ports.outbox import Pending
from consumer.stores.memory.data import MemoryData

__all__ = ["MemoryOutbox"]

_SHARDS = 16


class MemoryOutbox:
    """`ports.outbox.Outbox`.

    Args:
        data: what is shared with the other handles.
        app: this handle's.
    """

    def __init__(self, data: MemoryData, app: str) -> None:
        self._data = data
        self._app = app

    async def take(self, worker: int, limit: int) -> list[Pending]:
        """The oldest unsent messages of the worker's shards; see `ports.outbox.Outbox.take`."""
        data = self._data
        if data.closed(worker):
            return []
        self._share_out(worker)
        now = data.now()
        held_back: set[tuple[str, str]] = set()
        mine: list[Pending] = []
        for row in data.outbox.values():  # in the order of insertion
            outgoing = row.pending.outgoing
            lane = None if outgoing.ordering_key is None else (outgoing.topic, outgoing.ordering_key)
            if (
                row.app != self._app
                or data.owners.get((self._app, _shard(outgoing))) != worker
                or lane in held_back
            ):
                continue
            if row.pending.parked is not None or row.due_at > now:
                if lane is not None:
                    held_back.add(lane)
            elif len(mine) < limit:
                mine.append(row.pending)
        return mine

    def _share_out(self, worker: int) -> None:
        """Give up what is more than the worker's share, and take what is free up to it."""
        data, app = self._data, self._app
        data.relays.add((app, worker))
        asking = sum(each == app and not data.closed(relay) for each, relay in data.relays)
        mine, share = 0, -(-_SHARDS // asking)
        shards = sorted(range(_SHARDS), key=lambda shard: data.owners.get((app, shard)) != worker)
        for shard in shards:  # its own before the free ones
            owner = data.owners.get((app, shard), 0)
            if owner == worker or data.closed(owner):
                if mine < share:
                    data.owners[app, shard] = worker
                    mine += 1
                elif owner == worker:
                    del data.owners[app, shard]

    async def sent(self, seqs: Sequence[int]) -> None:
        """Forget these; see `ports.outbox.Outbox.sent`."""
        for seq in seqs:
            self._data.outbox.pop(seq, None)

    async def park(self, parked: Sequence[tuple[int, str]]) -> None:
        """Set messages aside; see `ports.outbox.Outbox.park`."""
        for seq, reason in parked:
            if (row := self._data.outbox.get(seq)) is not None:
                row.pending = msgspec.structs.replace(row.pending, parked=reason)


def _shard(outgoing: Outgoing) -> int:
    """One shard holds all of one (topic, ordering key); what has no order is spread."""
    lane = (
        outgoing.id
        if outgoing.ordering_key is None
        else f"{outgoing.topic}\0{outgoing.ordering_key}".encode()
    )
    return zlib.crc32(lane) % _SHARDS
