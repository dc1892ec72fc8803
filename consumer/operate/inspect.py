"""Find the one entry that somebody means."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consumer.entry import Entry
from consumer.ports.operator import Operator
from consumer.ports.outbox import Pending

__all__ = ["AppChoice", "Choice", "choose", "choose_app", "find", "find_outgoing"]


class AppChoice(msgspec.Struct, frozen=True):
    """Which app of a store is meant.

    Attributes:
        name: the app; `None` where the store holds none yet, or where it cannot be said.
        known: the apps in the store.
        fault: `ambiguous` or `unknown`; empty where there is none.
    """

    name: str | None
    known: tuple[str, ...]
    fault: str = ""


class Choice(msgspec.Struct, frozen=True):
    """Which entry a key means.

    Attributes:
        entry: the one that is meant; `None` where there is none, or where several could be.
        candidates: those that it could be; empty: no entry has this key.
    """

    entry: Entry | None
    candidates: tuple[Entry, ...]


async def choose_app(operator: Operator, wanted: str | None) -> AppChoice:
    """Return the app that is meant: the wanted one, else the only one.

    Args:
        operator: of the store.
        wanted: a name; `None`: whichever there is.
    """
    known = tuple(sorted(await operator.apps()))
    if wanted is not None:
        return AppChoice(wanted, known, "" if wanted in known else "unknown")
    if len(known) > 1:
        return AppChoice(None, known, "ambiguous")
    return AppChoice(known[0] if known else None, known)


async def find(
    operator: Operator, key: bytes, *, app: str | None, handler: str | None = None, tenant: str | None = None
) -> Choice:
    """Return the entry that a key means; see `choose`.

    Args:
        operator: of the store.
        key: a raw key, or an identity as 32 hexadecimal digits or as a uuid.
        app, handler, tenant: narrow it; `None`: any.
    """
    return choose(await operator.find(key, app=app, handler=handler, tenant=tenant))


def choose(entries: Sequence[Entry]) -> Choice:
    """Return the one that is meant: the only keyed entry, else the only entry.

    A dead letter of a conflict carries the key of the entry that it is in conflict with; it must not make that entry
    unreachable by its key.
    """
    keyed = [entry for entry in entries if entry.keyed]
    candidates = tuple(keyed or entries)
    return Choice(candidates[0] if len(candidates) == 1 else None, candidates)


async def find_outgoing(operator: Operator, name: str, app: str | None) -> Pending | None:
    """Return the message of the outbox that a sequence number or a message id (32 hexadecimal digits) names.

    Args:
        operator: of the store.
        name: as people write it.
        app: whose; `None`: anybody's.
    """
    for pending in await operator.outgoing(app=app):
        if name == str(pending.seq) or name.replace("-", "").lower() == pending.outgoing.id.hex():
            return pending
    return None
