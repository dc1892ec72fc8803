"""What people ask: `ports.operator.Operator`. Only here are whole sets read, in pages."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from consumer.entry import Entry, State
from consumer.ports.operator import Backlog, Count, Resolution
from consumer.ports.outbox import Pending
from consumer.rules.keys import identity as identity_of
from consumer.stores.redis.buckets import HOME, bucket_of, split
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.doubts import RedisDoubts
from consumer.stores.redis.listing import Listing
from consumer.stores.redis.names import Names
from consumer.stores.redis.outbox import places_of
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import MICRO, clean, micros, pending_of, raw

__all__ = ["RedisOperator"]

_REDRIVE = Script("entry", "redrive")
_PURGE = Script("entry", "purge")
_STATS = Script("entry", "stats")
_DECLARE = Script("declare")
_BACKLOG = Script("backlog")
_OUTBOX = Script("outbox")
_UNPARK = Script("lanes", "unpark")

_PAGE = 500
_PURGE_PAGE = 1_000
"""Per script: a server does nothing else meanwhile."""


class RedisOperator:
    """`ports.operator.Operator`.

    Args:
        calls: how buckets are asked.
        names: what there is to look for.
        doubts: resolves.
    """

    def __init__(self, calls: Calls, names: Names, doubts: RedisDoubts) -> None:
        self._calls = calls
        self._names = names
        self._doubts = doubts
        self._listing = Listing(calls)

    async def apps(self) -> list[str]:
        """The apps in this store; see `ports.operator.Operator.apps`."""
        [reply] = await self._calls.commands([("SMEMBERS", self._calls.key(HOME, "apps"))])
        return sorted(app.decode() for app in reply)

    async def find(
        self, key: bytes, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[Entry]:
        """All entries of a key or an identity; see `ports.operator.Operator.find`.

        By the names that are known: app, tenant, handler and key make the identity. Dead letters that could not be keyed
        are read through.
        """
        wanted = [
            identity_of(*name, key)
            for name in await self._names.known(app=app, handler=handler, tenant=tenant)
        ]
        spelled = _spelled(key)
        if spelled is not None:
            wanted.append(spelled)
        wanted += await self._listing.unkeyed(key)
        found = await self._listing.entries(dict.fromkeys(wanted), whole=True)
        return [
            entry
            for entry in found
            if (entry.key == key or entry.identity == spelled)
            and app in {None, entry.app}
            and handler in {None, entry.handler}
            and tenant in {None, entry.tenant}
        ]

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
        """Entries, oldest first; see `ports.operator.Operator.entries`."""
        if lane is not None:
            return []  # this store has no lanes
        names = await self._names.known(app=app, handler=handler, tenant=tenant)
        places = sorted({(of, by) for of, _, by in names})
        ordered = await self._listing.oldest(places, states or list(State), None if tenant else limit)
        found: list[Entry] = []
        for start in range(0, len(ordered), _PAGE):
            page = await self._listing.entries(ordered[start : start + _PAGE], whole=False)
            # It may have changed since its place was read.
            found += [
                entry
                for entry in page
                if (not states or entry.state in states)
                and app in {None, entry.app}
                and handler in {None, entry.handler}
                and tenant in {None, entry.tenant}
            ]
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    async def resolve(self, resolution: Resolution) -> bool:
        """As `Doubts.resolve`."""
        return await self._doubts.resolve(resolution)

    async def redrive(self, identity: bytes, token: int, reason: str) -> bool:
        """Dead to waiting; see `ports.operator.Operator.redrive`."""
        bucket = bucket_of(identity, self._calls.buckets)
        args = (raw(identity), split(token, bucket), clean(reason))
        return bool(await self._calls.run(_REDRIVE, bucket, *args))

    async def purge(self, *, app: str, handler: str, older_than: float, limit: int) -> int:
        """Forget old done entries; see `ports.operator.Operator.purge`."""
        gone = 0
        for bucket in range(self._calls.buckets):
            while gone < limit:
                page = min(limit - gone, _PURGE_PAGE)
                forgotten = await self._calls.run(_PURGE, bucket, app, handler, micros(older_than), page)
                gone += forgotten
                if forgotten < page:
                    break
        return gone

    async def stats(self, *, app: str | None = None) -> list[Count]:
        """Counts by app, handler and state; see `ports.operator.Operator.stats`."""
        places = sorted({(of, by) for of, _, by in await self._names.known(app=app)})
        if not places:
            return []
        counts: dict[tuple[str, str, State], tuple[int, float]] = {}
        args = [(bucket, (places,)) for bucket in range(self._calls.buckets)]
        for reply in await self._calls.run_all(_STATS, args):
            for of, by, state, count, oldest in reply:
                group = (of.decode(), by.decode(), State(state))
                so_far, first = counts.get(group, (0, float("inf")))
                counts[group] = (so_far + count, min(first, int(oldest) / MICRO))
        return [Count(*group, *counts[group]) for group in sorted(counts)]

    async def declare(self, app: str, handlers: dict[str, str]) -> dict[str, str]:
        """Remember the handlers of an app; see `ports.operator.Operator.declare`."""
        flat = [word for pair in handlers.items() for word in pair]
        known = await self._calls.run(_DECLARE, HOME, app, flat)
        return {name.decode(): mode.decode() for name, mode in zip(known[::2], known[1::2], strict=True)}

    async def outgoing(
        self, *, app: str | None = None, parked: bool | None = None, limit: int | None = None
    ) -> list[Pending]:
        """Messages in the outbox; see `ports.operator.Operator.outgoing`."""
        found: list[Pending] = []
        for bucket in range(self._calls.buckets):
            mine: list[Pending] = []
            after = "-inf"
            while limit is None or len(mine) < limit:
                reply = await self._calls.run(_OUTBOX, bucket, parked is True, after, _PAGE)
                rows = [pending_of(each, bucket) for each in reply]
                mine += [
                    row
                    for row in rows
                    if app in {None, row.app} and (parked is None or (row.parked is not None) == parked)
                ]
                if len(reply) < _PAGE:
                    break
                after = reply[-1][0].decode()
            found += mine
        return sorted(found, key=lambda pending: pending.seq)[:limit]

    async def backlog(self) -> Backlog:
        """Count the outbox; see `ports.operator.Operator.backlog`."""
        unsent, parked, oldest = 0, 0, None
        for reply in await self._calls.run_all(_BACKLOG, [(b, ()) for b in range(self._calls.buckets)]):
            named, refused, first = reply
            unsent, parked = unsent + named - refused, parked + refused
            if first is not None:
                made = int(first) / MICRO
                oldest = made if oldest is None else min(oldest, made)
        return Backlog(unsent, parked, oldest)

    async def unpark(self, seqs: Sequence[int]) -> int:
        """Let parked messages go on; see `ports.operator.Operator.unpark`."""
        places = places_of(seqs, self._calls.buckets)
        if not places:
            return 0
        return sum(await self._calls.run_all(_UNPARK, [(b, (drawn,)) for b, drawn in places.items()]))


def _spelled(key: bytes) -> bytes | None:
    """Return the identity that a key of 32 hexadecimal digits (with or without a uuid's dashes) spells."""
    try:
        return UUID(key.decode("ascii")).bytes
    except ValueError:
        return None
