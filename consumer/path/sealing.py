"""The end of a group's transaction: flush, fill, seal, commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from consumer.declare.tx import Writes
from consumer.entry import Settle
from consumer.errors import CommitUnknown, GroupFault, StoreUnavailable
from consumer.ports.inbox import Group

__all__ = ["flush", "seal_and_commit"]


async def flush(group: Group, writes: Writes) -> None:
    """Send what the handlers of the open transaction have queued.

    Raises:
        GroupFault: a write failed, or the connection is gone; nothing of the group has happened.
    """
    with _nothing_committed():
        await writes.flush(group)


async def seal_and_commit(group: Group, settles: Sequence[Settle]) -> None:
    """Write results and outgoing messages, open the gate, commit once.

    Args:
        group: the open transaction.
        settles: the completions of the handlers that returned in it.

    Raises:
        GroupFault: nothing of the group has happened.
        StoreUnavailable: the reply to COMMIT was lost and nobody can be asked; the next claim of each key will tell.
    """
    results = [(settle.identity, settle.result) for settle in settles if settle.result is not None]
    outgoing = [message for settle in settles for message in settle.outgoing]
    landings = [landing for settle in settles for landing in settle.landings]
    with _nothing_committed():
        if results or outgoing or landings:
            await group.fill(results, outgoing, landings)
        await group.seal()
    try:
        await group.commit()
    except CommitUnknown:
        # A handler never runs again on a guess: ask, on another connection, until the server knows.
        if not await group.outcome():
            raise GroupFault("the connection was lost before the transaction had committed") from None


@contextmanager
def _nothing_committed() -> Iterator[None]:
    """Name a connection that is lost before COMMIT a fault of the group.

    It may be a handler's doing (it closed the connection and returned). So each message runs alone, which asks the store
    first: one that is really away spends nobody's attempt, and the culprit is counted instead of tried for ever.
    """
    try:
        yield
    except StoreUnavailable as fault:
        raise GroupFault("the connection was lost before the transaction had committed") from fault
