"""Reading entries by their place in the sets that name them, and as people see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consumer.entry import Entry, State
from consumer.stores.redis.buckets import by_bucket
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import entry_of, raw

__all__ = ["Listing"]

_SEEN = Script("entry", "seen")
_RUNNING = Script("entry", "running")
_PAGE = 1_000


class Listing:
    """Reads, and changes nothing.

    Args:
        calls: how buckets are asked.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def entries(self, identities: Iterable[bytes], *, whole: bool) -> list[Entry]:
        """Return those that there are, in this order; with result and story only when `whole`."""
        wanted = list(identities)
        found: list[Entry | None] = [None] * len(wanted)
        places = by_bucket(wanted, self._calls.buckets)
        args = [(bucket, ([raw(wanted[i]) for i in where], whole)) for bucket, where in places.items()]
        if not args:
            return []
        for (bucket, where), reply in zip(
            places.items(), await self._calls.run_all(_SEEN, args), strict=True
        ):
            for i, each in zip(where, reply, strict=True):
                found[i] = None if each is None else entry_of(wanted[i], each, bucket)
        return [entry for entry in found if entry is not None]

    async def oldest(
        self, places: Sequence[tuple[str, str]], states: Sequence[State], limit: int | None
    ) -> list[bytes]:
        """Return identities in the order of their creation: of all (app, handler) of `places`, in these states."""
        found: dict[bytes, int] = {}
        for bucket in range(self._calls.buckets):
            for app, handler in places:
                for state in states:
                    if state not in {State.ABSENT, State.RUNNING}:
                        key = self._calls.key(bucket, f"i:{int(state)}:{app}\0{handler}")
                        found.update(await self._sorted(key, limit))
            if State.RUNNING in states:
                found.update({i: int(created) for i, created in await self._calls.run(_RUNNING, bucket)})
        return sorted(found, key=lambda identity: (found[identity], identity))

    async def unkeyed(self, name: bytes) -> list[bytes]:
        """Return the identities of entries that could not be keyed and go by this name."""
        found: list[bytes] = []
        for bucket in range(self._calls.buckets):
            cursor = b"0"
            while True:
                [(cursor, page)] = await self._calls.commands(
                    [("HSCAN", self._calls.key(bucket, "u"), cursor, "COUNT", _PAGE)]
                )
                pairs = page.items() if isinstance(page, dict) else zip(page[::2], page[1::2], strict=True)
                found += [identity for identity, known in pairs if known == name]
                if int(cursor) == 0:
                    break
        return found

    async def _sorted(self, key: bytes, limit: int | None) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        start = 0
        while limit is None or start < limit:
            page = _PAGE if limit is None else min(_PAGE, limit - start)
            [reply] = await self._calls.commands([("ZRANGE", key, start, start + page - 1, "WITHSCORES")])
            pairs = (
                reply
                if not reply or isinstance(reply[0], (tuple, list))
                else zip(reply[::2], reply[1::2], strict=True)
            )
            found.update({identity: int(float(score)) for identity, score in pairs})
            if len(reply) < page:
                break
            start += page
        return found
