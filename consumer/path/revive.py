"""Entries that the store delivers but that are not keyed as they are: redriven born dead, or bytes that no longer decode."""

from __future__ import annotations

import random

from consumer.declare.handlers import Handler
from consumer.entry import Claim, Conflicting, Kind, OnLapse, Settle, Settled, State, Taken, Won
from consumer.message import Message
from consumer.path.endings import fenced, running_elsewhere
from consumer.path.keying import Unkeyed, claim_of, envelope_of, landing_of
from consumer.path.parts import Ending, Parts
from consumer.path.turning import turn

__all__ = ["revive", "revive_taken"]


async def revive_taken(parts: Parts, handler: Handler, taken: Taken) -> Ending:
    """As `revive`, for an entry that is not claimed yet (a group took it and gave it back)."""
    claim = Claim(
        taken.identity,
        taken.tenant,
        handler.name,
        taken.key,
        taken.fingerprint,
        random.getrandbits(62) + 1,
        OnLapse.WAITING,
        handler.mode.retry.attempts,
        stored=True,
    )
    _, [answer] = await turn(parts, [], [claim])
    if not isinstance(answer, Won):
        return running_elsewhere("claimed by another worker")
    return await revive(parts, handler, taken, answer)


async def revive(parts: Parts, handler: Handler, taken: Taken, won: Won) -> Ending:
    """Decode and key the bytes anew: a new entry, the old one done with a pointer; or dead again, with the reason.

    Args:
        parts: what the path works with.
        handler: whose rules decide.
        taken: the entry, with its bytes.
        won: its claim.
    """
    message = Message.decode(taken.message)
    envelope = envelope_of(parts.app, handler, message, stored=True)
    if isinstance(envelope, Unkeyed):
        settle = Settle(taken.identity, won.token, Kind.BURY, reason=f"{envelope.kind}: {envelope.reason}")
    elif envelope.identity == taken.identity:
        # Its handler can decode it again (the code was mended meanwhile): back to the queue, due now.
        settle = Settle(taken.identity, won.token, Kind.RELEASE)
    else:
        [answer] = await parts.inbox.look([claim_of(handler, envelope)])
        if isinstance(answer, Conflicting):
            settle = Settle(taken.identity, won.token, Kind.BURY, reason=answer.reason)
        else:
            settle = Settle(
                taken.identity,
                won.token,
                Kind.COMPLETE,
                result=b'{"redriven_as":"%s"}' % envelope.identity.hex().encode(),
                landings=(landing_of(parts.app, handler, envelope),),
            )
    [settled], _ = await turn(parts, [settle], [])
    if settled is Settled.LOST:
        return fenced()
    state = {Kind.BURY: State.DEAD, Kind.COMPLETE: State.DONE, Kind.RELEASE: State.WAITING}[settle.kind]
    return Ending(state, ack=True, attempt=won.attempt, token=won.token, reason=settle.reason)
