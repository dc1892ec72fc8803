"""The one place that asks the store to settle and claim (`Inbox.turn`)."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.entry import Answer, Claim, Settle, Settled
from consumer.errors import StoreUnavailable
from consumer.path.parts import Parts

__all__ = ["turn"]

_PAUSES = (0.05, 0.2)
"""Seconds between repetitions of a turn whose reply was lost. Claims carry a nonce and settles their token, so a turn
that did happen is answered as it was the first time."""


async def turn(
    parts: Parts, settles: Sequence[Settle], claims: Sequence[Claim]
) -> tuple[list[Settled], list[Answer]]:
    """Settle the finished, claim the next: one commit.

    Stores shield it from the caller's cancellation: it happens whole or not at all.

    Raises:
        StoreUnavailable: also after repetitions; what was asked for may have happened.
    """
    if not settles and not claims:
        return [], []
    if not claims:
        return await _repeated(parts, settles, claims)
    with parts.asks():
        return await _repeated(parts, settles, claims)


async def _repeated(
    parts: Parts, settles: Sequence[Settle], claims: Sequence[Claim]
) -> tuple[list[Settled], list[Answer]]:
    for pause in _PAUSES:
        try:
            return await parts.inbox.turn(parts.worker, settles, claims)
        except StoreUnavailable:
            await parts.clock.sleep(pause)
    return await parts.inbox.turn(parts.worker, settles, claims)
