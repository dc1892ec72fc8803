"""What a person decides about entries: end a doubt, redrive a dead letter, forget what is old."""

from __future__ import annotations

from collections.abc import Mapping

from consumer.entry import Entry, State
from consumer.ports.operator import Operator, Resolution

__all__ = ["RESOLUTIONS", "purge", "redrive", "resolve"]

RESOLUTIONS: Mapping[str, State] = {"done": State.DONE, "not-done": State.WAITING, "dead": State.DEAD}
"""The words for how a doubt can end, and what the entry becomes."""

PURGE_BATCH = 5_000


async def resolve(
    operator: Operator, entry: Entry, word: str, reason: str, result: bytes | None = None
) -> str | None:
    """End a doubt by compare-and-set.

    Args:
        operator: of the store.
        entry: as it was seen.
        word: a key of `RESOLUTIONS`.
        reason: why, for the story; not empty.
        result: the encoded result, with `done`.

    Returns:
        `None`: it is resolved; else why it is not, on one line.
    """
    if entry.state is not State.IN_DOUBT:
        return f"the entry is {entry.state.word}; only an entry that is in_doubt can be resolved"
    resolution = Resolution(entry.identity, entry.token, RESOLUTIONS[word], reason, result=result)
    return None if await operator.resolve(resolution) else await _changed(operator, entry)


async def redrive(operator: Operator, entry: Entry, reason: str) -> str | None:
    """Let a dead letter start anew, by compare-and-set. A conflict is refused while the key's entry is there.

    Args:
        operator: of the store.
        entry: as it was seen.
        reason: why, for the story; not empty.

    Returns:
        As `resolve`.
    """
    if entry.state is not State.DEAD:
        return f"the entry is {entry.state.word}; only an entry that is dead can be redriven"
    other = await _in_conflict_with(operator, entry)
    if other is not None:
        return (
            f"a conflict: another payload has this key, in the entry {other.identity.hex()} ({other.state.word}); "
            "redriven, this one would be refused again. Publish it under a key of its own"
        )
    return (
        None
        if await operator.redrive(entry.identity, entry.token, reason)
        else await _changed(operator, entry)
    )


async def purge(operator: Operator, *, app: str, handler: str, older_than: float) -> int:
    """Forget done entries of one handler, in small batches.

    Args:
        operator: of the store.
        app, handler: whose.
        older_than: seconds since their creation.

    Returns:
        How many were forgotten.
    """
    gone = 0
    while True:
        batch = await operator.purge(app=app, handler=handler, older_than=older_than, limit=PURGE_BATCH)
        gone += batch
        if batch < PURGE_BATCH:
            return gone


async def _in_conflict_with(operator: Operator, entry: Entry) -> Entry | None:
    """Return the key's entry, where `entry` is the dead letter of another payload under that key."""
    if entry.keyed or not (entry.reason or "").startswith("conflict"):
        return None
    found = await operator.find(entry.key, app=entry.app, handler=entry.handler, tenant=entry.tenant)
    return next((each for each in found if each.keyed), None)


async def _changed(operator: Operator, entry: Entry) -> str:
    """Say what became of an entry between the look and the write."""
    for now in await operator.find(entry.identity.hex().encode(), app=entry.app):
        if now.identity == entry.identity:
            return (
                f"the entry has changed meanwhile and is {now.state.word} now; look at it, and decide again"
            )
    return "the entry is gone meanwhile"
