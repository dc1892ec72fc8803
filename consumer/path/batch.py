"""One call of a handler with `batch=N`: several deliveries, a verdict each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consumer.declare.batch import Batch, Item
from consumer.declare.tx import Writes
from consumer.entry import Won
from consumer.path.attempt import Verdict, attempt, context_of, verdict_of_mark
from consumer.path.parts import Parts, Work
from consumer.ports.inbox import Group

__all__ = ["attempt_batch", "chunks"]


async def attempt_batch(
    parts: Parts,
    works: Sequence[tuple[Work, Won]],
    *,
    group: Group | None = None,
    writes: Writes | None = None,
) -> list[Verdict] | Verdict:
    """Run a handler once for all of `works`; return a verdict for each, or the one of a call that did not return.

    Unmarked items have returned; `item.retry` and `item.reject` count as `Retry` and `Reject` of that item; what the
    handler raises is every item's. The time-out is the call's.

    Args:
        parts: what the path works with.
        works: of one handler, with their claims.
        group: the open transaction of a Transactional handler.
        writes: what the group has collected so far.

    Raises:
        asyncio.CancelledError: the runtime was told to stop; the outcome of all attempts is not known.
    """
    items = [Item(work.envelope.payload, context_of(parts, work, won)) for work, won in works]
    first, won = works[0]
    envelopes = [work.envelope for work, _ in works]
    verdict = await attempt(
        parts, first, won, group=group, writes=writes, payload=Batch(items), batch=envelopes
    )
    for item in items:
        item.ctx.revoke()
    if not verdict.returned:
        return verdict
    return [verdict_of_mark(item.mark, item.ctx.published, verdict.seconds) for item in items]


def chunks(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield `indices` in runs of at most `size`."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]
