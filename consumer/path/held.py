"""Deliveries that start nothing because their key's entry is there: attach bytes, bear conflicts dead, or ask again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.entry import Conflicting, Held, Kind, Landing, Settle, Settled, State
from consumer.message import Message
from consumer.path.endings import ending_of_answer
from consumer.path.keying import landing_of
from consumer.path.parts import Ending, Parts, Work
from consumer.path.turning import turn

__all__ = ["endings_of_held"]


async def endings_of_held(
    parts: Parts, held: Sequence[tuple[Work, Held | Conflicting]], *, refuse_conflicts: bool = False
) -> list[Ending]:
    """Return the endings of deliveries that were not claimed, after making each safe to acknowledge where it can be.

    - A conflict becomes a dead letter of its own, with its bytes, before it is acknowledged. The key's entry is left alone.
    - An entry at rest that lacks its bytes gets those of this redelivery; then it may be acknowledged.
    - A running entry is left alone: the delivery stays in hand and is asked about again.

    Args:
        parts: what the path works with.
        held: works with the answers that their claims got.
        refuse_conflicts: nothing is born dead; for callers that are told of the conflict directly.
    """
    endings = [ending_of_answer(answer) for _, answer in held]
    conflicts = [i for i, ending in enumerate(endings) if ending.conflict]
    if conflicts and not refuse_conflicts:
        await parts.arrivals.land([_conflict(parts.app, *held[i]) for i in conflicts])
        for i in conflicts:
            endings[i] = msgspec.structs.replace(endings[i], ack=True)
    bare = [
        i
        for i, (work, answer) in enumerate(held)
        if isinstance(answer, Held)
        and not answer.stored
        and answer.state in {State.IN_DOUBT, State.DEAD, State.WAITING}
        and not work.envelope.stored
    ]
    if bare:
        settled, _ = await turn(parts, [_attach(held[i][0]) for i in bare], [])
        for i, done in zip(bare, settled, strict=True):
            if done is Settled.OK:
                endings[i] = msgspec.structs.replace(endings[i], ack=True)
    for (work, _), ending in zip(held, endings, strict=True):
        parts.observer.ended(work, ending, 0.0)
    return endings


def _conflict(app: str, work: Work, answer: Held | Conflicting) -> Landing:
    reason = answer.reason or "another payload"
    landing = landing_of(app, work.handler, work.envelope)
    return msgspec.structs.replace(
        landing,
        identity=landing.conflict_identity,
        state=State.DEAD,
        reason=reason if reason.startswith("conflict:") else f"conflict: {reason}",
        keyed=False,
    )


def _attach(work: Work) -> Settle:
    message: Message = work.envelope.message
    return Settle(work.envelope.identity, 0, Kind.ATTACH, message=message.encode())
