"""What people and `reconcile` ask of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from consumer.entry import Entry, Landing, State, Taken
from consumer.message import Outgoing
from consumer.ports.outbox import Pending

__all__ = ["Backlog", "Count", "Doubts", "Operator", "Resolution"]


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """How somebody who knows the outcome ends a doubt: compare-and-set on (in doubt, token).

    Attributes:
        identity, token: the entry as it was seen.
        to: `DONE`, `WAITING` (it had no effect: one new start is permitted) or `DEAD`.
        reason: why, for the story; never empty.
        result, outgoing, landings: as in `Settle`, with `DONE`.
    """

    identity: bytes
    token: int
    to: State
    reason: str
    result: bytes | None = None
    outgoing: tuple[Outgoing, ...] = ()
    landings: tuple[Landing, ...] = ()


class Count(msgspec.Struct, frozen=True, gc=False):
    """How many entries of one handler are in one state, and since when the oldest (seconds since 1970).

    Attributes:
        behind: how many of them wait behind another entry of their lane.
    """

    app: str
    handler: str
    state: State
    count: int
    oldest: float
    behind: int = 0


class Backlog(msgspec.Struct, frozen=True, gc=False):
    """What is in the outbox of a store.

    Attributes:
        unsent: messages that wait for a relay, delayed ones too; parked ones not.
        parked: messages that the sink has refused for good.
        oldest: when the oldest unsent one was made, in seconds since 1970 by the store's clock; `None` where there is none.
    """

    unsent: int = 0
    parked: int = 0
    oldest: float | None = None


class Doubts(Protocol):
    """What `path.reconcile` needs."""

    async def ask(self, handlers: Sequence[str], limit: int, lease: float, tries: int) -> list[Taken]:
        """Take in-doubt entries of `handlers` that are due, hold their bytes and were asked about fewer than `tries` times.

        Each is due again after `lease` seconds (nobody else asks meanwhile) and counts one try; token and state stay.
        """
        ...

    async def resolve(self, resolution: Resolution) -> bool:
        """End a doubt in one commit. `False`: the entry is not in doubt with that token any more; nothing changed.

        Raises the token (a new one of the sequence), so that a late settlement is refused from then on. `WAITING`: due
        now, and the attempt count goes on; the nonce is cleared. On an entry without bytes the permission is remembered:
        it waits, `due` does not yield it, and the redelivery that brings the bytes claims it.
        """
        ...


class Operator(Protocol):
    """What the `inbox` and `outbox` commands need. `app=None` means: of all apps in this store."""

    async def apps(self) -> list[str]:
        """The apps that have entries, workers or handlers in this store."""
        ...

    async def find(
        self, key: bytes, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[Entry]:
        """All entries of this raw key (or, for 16 bytes in hex or uuid form, with this identity), with their stories."""
        ...

    async def entries(
        self,
        *,
        app: str | None = None,
        states: Sequence[State] = (),
        handler: str | None = None,
        tenant: str | None = None,
        lane: bytes | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Entries, oldest first, without results and stories; all of them when `limit` is `None`."""
        ...

    async def resolve(self, resolution: Resolution) -> bool:
        """As `Doubts.resolve`."""
        ...

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        """Dead to waiting by compare-and-set on (dead, token): attempts from 0, a new token, due now. Story.

        One of a lane joins it at the end: it is due when those before it are finished. `False`: it is not dead with that token any more.
        """
        ...

    async def purge(self, *, app: str, handler: str, older_than: float, limit: int) -> int:
        """Forget up to `limit` done entries of `handler` that were created more than `older_than` seconds ago.

        Only done ones: dead and in-doubt entries never expire by age. Returns how many were forgotten.
        """
        ...

    async def stats(self, *, app: str | None = None) -> list[Count]:
        """Counts by app, handler and state."""
        ...

    async def declare(self, app: str, handlers: dict[str, str]) -> dict[str, str]:
        """Remember the handlers (name to mode) that this app runs now; return those known before that call."""
        ...

    async def outgoing(
        self, *, app: str | None = None, parked: bool | None = None, limit: int | None = None
    ) -> list[Pending]:
        """Messages in the outbox, oldest first: all, only the parked ones, or only the others."""
        ...

    async def backlog(self) -> Backlog:
        """Count the outbox, without reading what is in it."""
        ...

    async def unpark(self, seqs: Sequence[int]) -> int:
        """Let parked messages be taken again. Returns how many were parked."""
        ...
