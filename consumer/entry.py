"""The entry: one row per (app, tenant, handler, key), and the values that ports exchange about it.

Inbox entry, claim, retry timer, dead letter and stored result are states of one row. The transitions are a table in
`rules.states`; what a store must do for each verb is written on the ports.
"""

from __future__ import annotations

import enum

import msgspec

from consumer.message import Outgoing

__all__ = [
    "Answer",
    "Claim",
    "Conflicting",
    "Entry",
    "Held",
    "Kind",
    "Landed",
    "Landing",
    "OnLapse",
    "Settle",
    "Settled",
    "State",
    "StoryLine",
    "Taken",
    "Won",
]


class State(enum.IntEnum):
    """Where an entry is. The numbers are stored: never change one. `ABSENT` is the lack of a row."""

    ABSENT = 0
    RECEIVED = 1
    RUNNING = 2
    WAITING = 3
    DONE = 4
    IN_DOUBT = 5
    DEAD = 6

    @property
    def word(self) -> str:
        """The state as people and JSON write it: `in_doubt`."""
        return self.name.lower()


class OnLapse(enum.IntEnum):
    """What a running entry becomes when its worker is gone. It travels in the row: stores never know modes."""

    IN_DOUBT = 0
    WAITING = 1


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The wish to run one key's work now, and what an entry needs to know of it.

    Attributes:
        identity: 16 bytes, the primary key.
        tenant, handler, key: what the identity was made of (the app is the store handle's), compared on a hit.
        fingerprint: 16 bytes; another one under the same identity is a conflict.
        nonce: random, positive, below 2**63: the same claim asked again (a lost reply) is answered `Won` again.
        on_lapse: see `OnLapse`.
        budget: attempts after which a lapse or a retry buries the entry.
        stored: claim also an entry that is received or waiting, holds its bytes and is due.
        message: `Message.encode()` to keep with the claim, for sources that cannot deliver again; else `None`.
    """

    identity: bytes
    tenant: str
    handler: str
    key: bytes
    fingerprint: bytes
    nonce: int
    on_lapse: OnLapse
    budget: int
    stored: bool = False
    message: bytes | None = None


class Won(msgspec.Struct, frozen=True, gc=False):
    """The claim succeeded: the entry is running, and only writes that carry this token may settle it.

    Attributes:
        token: the fencing token, greater than every one given out before by this store.
        attempt: counts from 1; a redrive starts it anew.
        created_at: when the entry was made, by the store's clock, in seconds since 1970; `None` where the claim does not say.
    """

    token: int
    attempt: int
    created_at: float | None = None


class Held(msgspec.Struct, frozen=True, gc=False):
    """The key's entry exists and was not claimed.

    Attributes:
        state: the entry's state.
        stored: the entry holds the message's bytes.
        token: the entry's current token.
        attempt: attempts so far.
        result: the stored result of a done entry, `None` where there is none.
        reason: why it waits, is dead or in doubt.
        created_at: when the entry was made, in seconds since 1970 by the store's clock; 0: it does not say.
    """

    state: State
    stored: bool
    token: int = 0
    attempt: int = 0
    result: bytes | None = None
    reason: str | None = None
    created_at: float = 0.0


class Conflicting(msgspec.Struct, frozen=True, gc=False):
    """The identity is taken by another payload (or, never seen yet, by another raw key). Nothing was changed."""

    reason: str


Answer = Won | Held | Conflicting


class Kind(enum.IntEnum):
    """What a settle does. `ATTACH` only adds missing bytes to an entry that is in doubt, waiting or dead."""

    COMPLETE = 1
    RETRY = 2
    DOUBT = 3
    BURY = 4
    RELEASE = 5
    ATTACH = 6


class Settle(msgspec.Struct, frozen=True, gc=False):
    """The end of one attempt, written by the holder of its token.

    Attributes:
        identity: the entry.
        token: the token of the attempt; `ATTACH` ignores it.
        kind: see `Kind`.
        reason: for people (retry, doubt, bury).
        delay: seconds until the next attempt (retry), or until reconcile is asked first (doubt; `None`: never).
        result: the encoded result (complete).
        message: `Message.encode()`: the bytes that the entry must hold from now on; `None` where it holds them, or needs none.
        outgoing: published by the relay after this commit (complete).
        landings: entries of embedded topics, received in this commit (complete).
        in_lane: the entry is in a lane, which its end gives free. A hint only: the row decides.
    """

    identity: bytes
    token: int
    kind: Kind
    reason: str | None = None
    delay: float | None = None
    result: bytes | None = None
    message: bytes | None = None
    outgoing: tuple[Outgoing, ...] = ()
    landings: tuple[Landing, ...] = ()
    in_lane: bool = False


class Settled(enum.Enum):
    """What became of a settle. `LOST`: the entry is no longer this token's; nothing was changed."""

    OK = "ok"
    LOST = "lost"


class Landing(msgspec.Struct, frozen=True, gc=False):
    """A durable write at the way in: an entry with its bytes that no handler has started yet.

    Attributes:
        identity, tenant, handler, key, fingerprint, on_lapse, budget: as in `Claim`.
        message: `Message.encode()`.
        conflict_identity: the identity that a conflict is born dead under, in the same commit.
        state: `RECEIVED`, or `DEAD` for what cannot be keyed (born dead).
        reason: why it is born dead.
        keyed: `False` for an identity of the separate domain of the born dead; `key` is then a name for people.
        delay: seconds until it is due.
        lane: the ordering key of an ordered handler's message, 255 bytes at most; `None`: it has no order. Those of one
            (app, handler, tenant, lane) start one at a time, in the order in which they were landed.
    """

    identity: bytes
    tenant: str
    handler: str
    key: bytes
    fingerprint: bytes
    on_lapse: OnLapse
    budget: int
    message: bytes
    conflict_identity: bytes
    state: State = State.RECEIVED
    reason: str | None = None
    keyed: bool = True
    delay: float = 0.0
    lane: bytes | None = None


class Landed(enum.Enum):
    """What became of a landing: a new entry, one that was there already, or a dead letter beside the key's entry."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Taken(msgspec.Struct, frozen=True, gc=False):
    """An entry that the store delivers: it was due, and is claimed by the taker from this moment.

    Attributes:
        identity, tenant, handler, key, fingerprint: the entry's.
        message: `Message.encode()`.
        token, attempt: as in `Won`.
        keyed: `False`: it must be decoded and keyed anew (a redriven entry of the born dead).
        lane: as in `Landing`.
    """

    identity: bytes
    tenant: str
    handler: str
    key: bytes
    fingerprint: bytes
    message: bytes
    token: int
    attempt: int
    keyed: bool = True
    lane: bytes | None = None


class StoryLine(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened to an entry and that people may ask about later (a plain completion is not written).

    Attributes:
        at: seconds since 1970 by the store's clock.
        event: `retry`, `doubt`, `bury`, `lapse`, `resolve`, `redrive`, `late`, `second_effect_suspected`, `reconcile`.
        token, attempt: of the attempt that it belongs to.
        reason: as given.
    """

    at: float
    event: str
    token: int
    attempt: int
    reason: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry as people see it. Times are seconds since 1970 by the store's clock.

    Attributes:
        lane: as in `Landing`; it stays with an entry that is done or dead, though that holds nothing up any more.
        behind: the identity of the entry at the head of its lane, which it waits for; `None`: it waits for nobody.
    """

    identity: bytes
    app: str
    tenant: str
    handler: str
    key: bytes
    state: State
    attempts: int
    token: int
    created_at: float
    due_at: float | None = None
    worker: int | None = None
    reason: str | None = None
    result: bytes | None = None
    message: bytes | None = None
    keyed: bool = True
    story: tuple[StoryLine, ...] = ()
    lane: bytes | None = None
    behind: bytes | None = None
