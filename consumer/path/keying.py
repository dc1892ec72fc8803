"""decode, key: from a message to an envelope, a claim or a landing. What cannot be keyed is born dead."""

from __future__ import annotations

import random

import msgspec

from consumer.declare.handlers import Handler
from consumer.entry import Claim, Landing, OnLapse, State
from consumer.message import Envelope, Message
from consumer.rules import keys
from consumer.rules.decode import Undecodable
from consumer.rules.modes import MODES, AtMostOnce

__all__ = ["Unkeyed", "born_dead", "claim_of", "envelope_of", "in_transaction", "landing_of", "mode_name"]


class Unkeyed(msgspec.Struct, frozen=True, gc=False):
    """A message that one handler can make no key of.

    Attributes:
        kind: `decode` or `key`.
        reason: one line for people.
        tenant: where it could be known, else `None`.
    """

    kind: str
    reason: str
    tenant: str | None = None

    @property
    def text(self) -> str:
        """The reason, which begins with its kind."""
        return self.reason if self.reason.startswith(f"{self.kind}:") else f"{self.kind}: {self.reason}"


def envelope_of(app: str, handler: Handler, message: Message, *, stored: bool = False) -> Envelope | Unkeyed:
    """Decode `message` for `handler` and name its entry.

    Args:
        app: the app's name, part of the identity.
        handler: whose rules decide.
        message: what arrived.
        stored: the store delivers it again, no broker does.
    """
    tenant: str | None = None
    try:
        payload = handler.decode(message)
        tenant = handler.tenant_of(payload, message)
        key = handler.key_of(payload, message)
        fingerprint = handler.fingerprint_of(payload, message)
        lane = handler.lane_of(payload, message)
    except Undecodable as fault:
        return Unkeyed("decode", fault.reason)
    except keys.BadKey as fault:
        return Unkeyed("key", str(fault), tenant)
    return Envelope(
        message,
        payload,
        tenant,
        key,
        keys.identity(app, tenant, handler.name, key),
        fingerprint,
        stored,
        lane,
    )


def claim_of(handler: Handler, envelope: Envelope, *, keep: bool = False) -> Claim:
    """Return the wish to run `envelope` now.

    Args:
        handler: its mode decides what a lapse makes of the entry, and the budget of attempts.
        envelope: what to run.
        keep: store the bytes with the claim, because nobody delivers them again.
    """
    return Claim(
        envelope.identity,
        envelope.tenant,
        handler.name,
        envelope.key,
        envelope.fingerprint,
        random.getrandbits(62) + 1,
        _on_lapse(handler),
        handler.mode.retry.attempts,
        stored=envelope.stored,
        message=envelope.message.encode() if keep else None,
    )


def landing_of(app: str, handler: Handler, envelope: Envelope, delay: float = 0.0) -> Landing:
    """Return the durable write of an envelope that nobody has started yet."""
    return Landing(
        envelope.identity,
        envelope.tenant,
        handler.name,
        envelope.key,
        envelope.fingerprint,
        _on_lapse(handler),
        handler.mode.retry.attempts,
        envelope.message.encode(),
        keys.born_dead_identity(app, envelope.tenant, handler.name, "conflict", envelope.message),
        delay=delay,
        lane=envelope.lane,
    )


def born_dead(app: str, handler: Handler, message: Message, unkeyed: Unkeyed) -> Landing:
    """Return the dead letter of what cannot be keyed, with its bytes, under an identity of its own.

    People find it by `topic/partition/offset`, or by its identity where there is no position.
    """
    own = keys.born_dead_identity(app, unkeyed.tenant, handler.name, unkeyed.kind, message)
    return Landing(
        own,
        unkeyed.tenant or "public",
        handler.name,
        (message.position or own.hex()).encode(),
        keys.fingerprint_of_bytes(message.value),
        _on_lapse(handler),
        handler.mode.retry.attempts,
        message.encode(),
        own,
        state=State.DEAD,
        reason=unkeyed.text,
        keyed=False,
    )


def in_transaction(handler: Handler) -> bool:
    """Whether the handler's database changes share the commit of its entry (Transactional)."""
    return MODES[type(handler.mode)].in_transaction


def mode_name(handler: Handler) -> str:
    """Return the name of the handler's mode."""
    return MODES[type(handler.mode)].name


def _on_lapse(handler: Handler) -> OnLapse:
    return OnLapse.IN_DOUBT if isinstance(handler.mode, AtMostOnce) else OnLapse.WAITING
