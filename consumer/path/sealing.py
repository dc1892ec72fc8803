"""The end of a group's transaction: fill, seal, commit."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Settle
from consumer.errors import CommitUnknown, GroupFault
from consumer.ports.inbox import Group

__all__ = ["seal_and_commit"]


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
    if results or outgoing or landings:
        await group.fill(results, outgoing, landings)
    await group.seal()
    try:
        await group.commit()
    except CommitUnknown:
        # A handler never runs again on a guess: ask, on another connection, until the server knows.
        if not await group.outcome():
            raise GroupFault("the connection was lost before the transaction had committed") from None
