"""The Redis store: shared, without transactions for handlers. `docs/redis.md` says what it promises and what it cannot.

Every verb is a script (`lua/`) that runs in one bucket; `buckets` says what that is, `history` how lost claims are noticed,
`calls` how scripts are called, `faults` what errors mean.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from consumer.ports.inbox import Groups
from consumer.ports.store import Capabilities
from consumer.stores.redis import schema
from consumer.stores.redis.address import parse
from consumer.stores.redis.arrivals import RedisArrivals
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.checks import check_server
from consumer.stores.redis.doubts import RedisDoubts
from consumer.stores.redis.history import History
from consumer.stores.redis.inbox import RedisInbox
from consumer.stores.redis.names import Names
from consumer.stores.redis.operator import RedisOperator
from consumer.stores.redis.outbox import RedisOutbox
from consumer.stores.redis.workers import RedisWorkers

__all__ = ["CAPABILITIES", "CLUSTER_CAPABILITIES", "RedisStore"]

CAPABILITIES = Capabilities(
    transactions=False,
    durable=True,
    shared=True,
    fifo_outbox=True,
    weakness="duplicates are possible after a fail-over, eviction or restore to an older copy",
)
"""Of one server, with or without Sentinels."""

CLUSTER_CAPABILITIES = msgspec.structs.replace(CAPABILITIES, fifo_outbox=False)

CLUSTER_BUCKETS = 32
"""On a cluster: more than there will be primaries, few enough to be asked all at once. Kept in the store."""

_log = logging.getLogger("consumer.redis")


class RedisStore:
    """A handle on a Redis; `ports.store.Store`. It connects when it is asked for something, and not before.

    A handle belongs to the event loop that uses it first; another thread makes its own.

    Args:
        url: `redis://user:password@host:port/0`, `rediss://…`, `redis+sentinel://h1,h2/service/0` or
            `redis+cluster://h1,h2`; see `address.parse`. `weak=yes` permits settings that weaken the promise.
        app: the app that this handle works for.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, url: str, app: str) -> None:
        address = parse(url)
        cluster = address.kind == "cluster"
        self._calls = Calls(address, app, CLUSTER_BUCKETS if cluster else 1)
        self._capabilities = CLUSTER_CAPABILITIES if cluster else CAPABILITIES
        history, names = History(self._calls), Names(self._calls, app)
        self.groups: Groups | None = None
        self.inbox = RedisInbox(self._calls, app, history, names)
        self.arrivals = RedisArrivals(self._calls, app, history, names)
        self.workers = RedisWorkers(self._calls, app)
        self.outbox = RedisOutbox(self._calls, app)
        self.doubts = RedisDoubts(self._calls, app, names)
        self.operator = RedisOperator(self._calls, names, self.doubts)

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do; which settings weaken it is known when it is open."""
        return self._capabilities

    async def open(self, *, check: bool = True) -> None:
        """Connect, and refuse what cannot work; see `ports.store.Store.open`."""
        if check:
            weak = await check_server(self._calls)
            if weak:
                weakness = f"{self._capabilities.weakness}; permitted by weak=yes: {', '.join(weak)}"
                self._capabilities = msgspec.structs.replace(self._capabilities, weakness=weakness)
            await schema.check(self._calls)
            for why in await schema.broken(self._calls):
                _log.error("nothing is claimed until somebody runs consumer accept-history: %s", why)
        else:
            await self._calls.everywhere("PING")
        self._calls.trusted = True

    async def close(self) -> None:
        """Let go of every connection. Never raises."""
        await self._calls.close()

    async def migrate(self, own: Sequence[str] = (), *, dry_run: bool = False) -> list[str]:  # noqa: ARG002
        """Make the store's mark; `own` has no dialect here. See `ports.store.Store.migrate`."""
        await check_server(self._calls)
        return await schema.migrate(self._calls, dry_run=dry_run)

    async def accept_history(self, reason: str) -> list[str]:
        """Answer for what this store may have lost, so that claims go on; return what was wrong.

        Args:
            reason: why that is right, kept in the store; never empty.

        Raises:
            StoreUnavailable: nobody answers; the same call may be repeated.
        """
        return await schema.accept_history(self._calls, reason)
