"""Signs of life by the server's clock, and what becomes of the claims of a process that is gone.

A worker's row lies in the home bucket; every bucket knows whether it may still claim there. It is closed in its row first, by
compare-and-set, then in every bucket, and only then are its claims touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consumer.entry import State
from consumer.ports.workers import Adopted
from consumer.stores.redis.buckets import HOME, join
from consumer.stores.redis.calls import Calls
from consumer.stores.redis.scripts import Script
from consumer.stores.redis.values import micros

__all__ = ["RedisWorkers"]

_OPEN = Script("history", "signs", "open")
_BEAT = Script("history", "signs", "beat")
_CLOSE = Script("signs", "close")
_LAPSE = Script("signs", "lapse")
_OTHERS = Script("others")
_LAPSED = Script("lapsed")
_ADOPT = Script("entry", "adopt")
_CLAIMS = Script("entry", "claims")

_UNCLEAN = b"unclean"


class RedisWorkers:
    """`ports.workers.Workers`.

    Args:
        calls: how buckets are asked.
        app: this handle's.
    """

    def __init__(self, calls: Calls, app: str) -> None:
        self._calls = calls
        self._app = app
        self._everywhere = range(calls.buckets)

    async def open(self, ttl: float, about: str) -> int:
        """Make a worker, and forget those that ended a month ago; see `ports.workers.Workers.open`."""
        worker, old = await self._calls.run(_OPEN, HOME, self._app, micros(ttl), about)
        # Unless it is closed there already: whoever slept here for longer than its time-to-live is taken for dead.
        commands: list[Sequence[object]] = [("HSETNX", self._key(b), worker, 0) for b in self._everywhere]
        if old:
            commands += [("HDEL", self._key(bucket), *old) for bucket in self._everywhere]
        await self._calls.commands(commands)
        return int(worker)

    async def beat(self, worker: int) -> bool:
        """Renew the sign of life; see `ports.workers.Workers.beat`.

        Raises:
            StoreUnavailable: nobody answers, or the store has forgotten this worker: it may have lost claims.
        """
        return bool(await self._calls.run(_BEAT, HOME, str(worker)))

    async def close(self, worker: int) -> None:
        """End the worker cleanly; see `ports.workers.Workers.close`."""
        await self._calls.run(_CLOSE, HOME, str(worker))
        await self._calls.commands([("HSET", self._key(bucket), worker, "-") for bucket in self._everywhere])

    async def others(self, worker: int) -> dict[int, float]:
        """The open workers but this one; see `ports.workers.Workers.others`."""
        reply = await self._calls.run(_OTHERS, HOME, self._app, str(worker))
        return {int(n): float(beats) for n, beats in zip(reply[::2], reply[1::2], strict=True)}

    async def lapse(self) -> list[int]:
        """Close those that are silent; see `ports.workers.Workers.lapse`."""
        closed = await self._closed()
        gone = []
        for worker, how in closed.items():
            if not await self._left(worker):
                await self._drained(worker)
            elif how == _UNCLEAN:
                gone.append(worker)
        return gone

    async def lapsed(self, since: int) -> set[int]:
        """Those that ended by a lapse; see `ports.workers.Workers.lapsed`."""
        return set(map(int, await self._calls.run(_LAPSED, HOME, self._app, str(since))))

    async def adopt(self, limit: int, patience: Mapping[str, float] | None = None) -> list[Adopted]:
        """Apply `on_lapse`; see `ports.workers.Workers.adopt`."""
        waits = {handler: micros(seconds) for handler, seconds in (patience or {}).items()}
        adopted: list[Adopted] = []
        for worker in await self._holders():
            left = 0
            for bucket in self._everywhere:
                lapsed, remaining = await self._calls.run(
                    _ADOPT, bucket, str(worker), limit - len(adopted), waits
                )
                left += remaining
                adopted += [Adopted(i, h.decode(), k, State(state)) for i, h, k, state in lapsed]
            if not left:
                await self._drained(worker)
            if len(adopted) >= limit:
                break
        return adopted

    async def claims(self, worker: int) -> list[tuple[bytes, int, str]]:
        """The running entries of a worker; see `ports.workers.Workers.claims`."""
        replies = await self._calls.run_all(
            _CLAIMS, [(bucket, (str(worker),)) for bucket in self._everywhere]
        )
        return [
            (identity, join(drawn, bucket), handler.decode())
            for bucket, reply in enumerate(replies)
            for identity, drawn, handler in reply
        ]

    # ----------------------------------------------------------------------------------------- closed workers

    def _key(self, bucket: int) -> bytes:
        return self._calls.key(bucket, "w")

    async def _closed(self) -> dict[int, bytes]:
        """Close the silent ones; return the closed ones that may hold claims, and how each was closed."""
        reply = await self._calls.run(_LAPSE, HOME, self._app)
        return {int(worker): how for worker, how in zip(reply[::2], reply[1::2], strict=True)}

    async def _holders(self) -> list[int]:
        [reply] = await self._calls.commands([("HKEYS", self._calls.key(HOME, f"closed:{self._app}"))])
        return sorted(map(int, reply))

    async def _left(self, worker: int) -> int:
        """Close the worker in every bucket; return how many claims it has left."""
        nothing: dict[str, int] = {}
        args = [(bucket, (str(worker), 0, nothing)) for bucket in self._everywhere]
        return sum(remaining for _, remaining in await self._calls.run_all(_ADOPT, args))

    async def _drained(self, worker: int) -> None:
        # It is closed in every bucket, so it gets no new claims.
        await self._calls.commands([("HDEL", self._calls.key(HOME, f"closed:{self._app}"), worker)])
