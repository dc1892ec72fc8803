"""Which (app, tenant, handler) have ever had entries: with a raw key they make the identities to look for.

An index of raw keys would cost every key some 150 bytes; this costs one command per new name.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from consumer.stores.redis.buckets import HOME
from consumer.stores.redis.calls import Calls

__all__ = ["Names"]

_MOST_KNOWN = 100_000
_decode = msgspec.msgpack.Decoder(tuple[str, str, str]).decode


class Names:
    """Announces names before the first entry that has them.

    Args:
        calls: how the store is asked.
        app: of this handle.
    """

    def __init__(self, calls: Calls, app: str) -> None:
        self._calls = calls
        self._app = app
        self._known: set[tuple[str, str]] = set()

    async def announce(self, names: Iterable[tuple[str, str]]) -> None:
        """Write down those (tenant, handler) that this handle has not announced yet.

        Raises:
            StoreUnavailable: nobody answers.
        """
        new = set(names) - self._known
        if not new:
            return
        members = [msgspec.msgpack.encode((self._app, *name)) for name in new]
        await self._calls.commands(
            [
                ("SADD", self._calls.key(HOME, "names"), *members),
                ("SADD", self._calls.key(HOME, "apps"), self._app),
            ]
        )
        if len(self._known) > _MOST_KNOWN:
            self._known.clear()
        self._known |= new

    def forget(self) -> None:
        """The store may have lost them: announce them again."""
        self._known.clear()

    async def known(
        self, *, app: str | None = None, handler: str | None = None, tenant: str | None = None
    ) -> list[tuple[str, str, str]]:
        """Return the (app, tenant, handler) that there are, narrowed.

        Raises:
            StoreUnavailable: nobody answers.
        """
        found: list[tuple[str, str, str]] = []
        cursor = b"0"
        while True:
            [(cursor, page)] = await self._calls.commands(
                [("SSCAN", self._calls.key(HOME, "names"), cursor, "COUNT", 1000)]
            )
            found += map(_decode, page)
            if int(cursor) == 0:
                break
        wanted = (app, tenant, handler)
        return sorted(
            {name for name in found if all(w in {None, n} for w, n in zip(wanted, name, strict=True))}
        )
