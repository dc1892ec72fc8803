"""Taking from queues that lie in all buckets: on a cluster first a look at their heads, then the oldest of them.

`due` and `ask` share it. One script per bucket that took by itself would take more than the limit, or not the oldest.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from consumer.stores.redis.calls import Calls
from consumer.stores.redis.moving import Moving, move, moving_of
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import raw

__all__ = ["soonest"]

_SOONEST = Script("entry", "queues", "soonest")


async def soonest(
    calls: Calls, queue: str, app: str, handlers: Sequence[str], *, limit: int, tries: int | None = None
) -> dict[int, list[object]]:
    """Return what is due soonest over all buckets: packed identities by bucket. Moves landings that were left behind.

    Args:
        calls: how buckets are asked.
        queue: `d:` (due) or `q:` (doubts).
        app: whose.
        handlers: whose.
        limit: how many at most.
        tries: of a doubt that may be asked about, how often that was done is below it.

    Raises:
        StoreUnavailable: no bucket answers.
    """
    args = (queue, app, list(handlers), limit, tries)
    replies = await calls.run_all(_SOONEST, [(bucket, args) for bucket in range(calls.buckets)], some=True)
    heads: list[tuple[int, bytes, int]] = []
    for bucket, reply in enumerate(replies):
        if reply is None:
            continue  # that part of the cluster is away; the others go on
        found, left_behind, now = reply
        heads += [(int(due), identity, bucket) for identity, due in found]
        if left_behind:
            pairs = zip(left_behind[::2], left_behind[1::2], strict=True)
            moving: list[Moving] = moving_of(bucket, list(pairs))
            await move(calls, moving, now=int(now))
    places: dict[int, list[object]] = {}
    for _, identity, bucket in heapq.nsmallest(limit, heads):
        places.setdefault(bucket, []).append(raw(identity))
    return places
