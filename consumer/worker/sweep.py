"""What must be done now and then: adopt what the dead left behind, ask about doubts, forget what is old."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from consumer.declare.handlers import Handler
from consumer.entry import Kind, Settle, State
from consumer.errors import ConsumerError, StoreUnavailable
from consumer.path.fields import key_hash
from consumer.path.parts import Parts
from consumer.path.reconcile import ask_about_doubts
from consumer.path.turning import turn
from consumer.ports.store import Store
from consumer.worker.caution import Caution

__all__ = ["Sweep"]

_log = logging.getLogger("consumer.sweep")

ADOPT_BATCH = 500
PURGE_BATCH = 5_000
PURGE_EVERY = 60.0
COMPARE_EVERY = 10.0
AGAIN = 1.0
"""Seconds until a sweep that the store has refused is tried again."""


class Sweep:
    """Every few seconds, for as long as the process lives.

    Args:
        parts: what the path works with.
        store: all ports.
        handlers: this app's.
        caution: told of workers that are gone.
        held: the (identity, token) pairs that this process really runs.
        look_for_due: called when entries may have become due.
        asks: `reconcile` is asked about doubts here; not in a process that opens no resources.

    Attributes:
        lapses: workers that this process has found dead.
        adopted: entries of dead workers, by handler and the state that they were given.
        purged: forgotten entries, by handler.
    """

    def __init__(
        self,
        parts: Parts,
        store: Store,
        handlers: Sequence[Handler],
        *,
        caution: Caution,
        held: Callable[[], dict[bytes, int]],
        look_for_due: Callable[[], None],
        asks: bool = True,
    ) -> None:
        self._parts = parts
        self._store = store
        self._handlers = handlers
        self._reconcilable = [h for h in handlers if getattr(h.mode, "reconcile", None) is not None]
        self._caution = caution
        self._held = held
        self._look_for_due = look_for_due
        self._asks = asks
        self._unknown: dict[tuple[bytes, int], frozenset[object]] = {}
        self.lapses = 0
        self.purged: Counter[str] = Counter()
        self.adopted: Counter[tuple[str, State]] = Counter()
        self._purged = parts.clock.monotonic()
        self._compared = parts.clock.monotonic()

    async def run(self, every: float) -> None:
        """Sweep every `every` seconds until cancelled; a fault is logged, and the next sweep tries again."""
        while True:
            try:
                await self.once()
                self._parts.away.answered(wrote=False)
            except StoreUnavailable as fault:
                self._parts.away.refused(fault)
                # Where nothing runs, and so nothing asks, the sweep is who finds out that the store is back.
                await asyncio.sleep(min(every, AGAIN))
                continue
            except ConsumerError:
                _log.exception("a sweep failed")
            await asyncio.sleep(every)

    async def once(self) -> None:
        """One sweep."""
        await self.settle_owed()
        await self.adopt()
        if self._asks and await ask_about_doubts(self._parts, self._store.doubts, self._reconcilable):
            self._look_for_due()
        now = self._parts.clock.monotonic()
        if now - self._compared >= COMPARE_EVERY:
            self._compared = now
            await self._release_unknown()
        if now - self._purged >= PURGE_EVERY:
            self._purged = now
            await self.purge()

    async def settle_owed(self) -> None:
        """Settle direct calls whose settle the store has not answered."""
        owed = list(self._parts.owed.values())
        if owed:
            await turn(self._parts, owed, [])
            for settle in owed:
                # Meanwhile the key may have run again, after a release: what is owed for that is another settle.
                if self._parts.owed.get(settle.identity) is settle:
                    del self._parts.owed[settle.identity]

    async def adopt(self) -> None:
        """Close lapsed workers, then apply their entries' lapse rule."""
        workers, me = self._store.workers, self._parts.worker
        await self._caution.meet(workers, me)
        before = await workers.others(me)
        unclean = await workers.lapse()
        adopted_any = False
        patience = {handler.name: handler.timeout for handler in self._reconcilable}
        while True:
            adopted = await workers.adopt(ADOPT_BATCH, patience)
            for entry in adopted:
                self.adopted[entry.handler, entry.state] += 1
                level = logging.WARNING if entry.state is State.IN_DOUBT else logging.INFO
                fields = {
                    "handler": entry.handler,
                    "key_hash": key_hash(entry.key),
                    "state": entry.state.word,
                }
                text = "%s: an entry of a dead worker is %s now"
                _log.log(level, text, entry.handler, entry.state.word, extra={"fields": fields})
            adopted_any = adopted_any or bool(adopted)
            if len(adopted) < ADOPT_BATCH:
                break
        dead = await self._caution.look(workers, me, unclean=bool(unclean))
        # Seen open just now, lapsed now: this process (or another one within a moment) has found it dead.
        self.lapses += len(before.keys() & dead)
        if adopted_any:
            self._look_for_due()

    async def _release_unknown(self) -> None:
        """Release claims that the store gave this worker and it never started: their reply was lost.

        Seen in two comparisons, and none of the questions that were under way when it was seen first is any more: a reply
        may be late by any time that the connection bears, and what it says is started when it comes.
        """
        theirs = await self._store.workers.claims(self._parts.worker)
        # Only now, and both at once: what was started since the store was asked is no claim that nobody knows of.
        held, asking = self._held(), self._parts.asking
        unknown = {(identity, token) for identity, token, _ in theirs if held.get(identity) != token}
        lost = [claim for claim in unknown if claim in self._unknown and not self._unknown[claim] & asking]
        now = frozenset(asking)
        self._unknown = {claim: self._unknown.get(claim, now) for claim in unknown.difference(lost)}
        if lost:
            _log.warning("%d claims whose reply was lost are released", len(lost))
            await turn(self._parts, [Settle(identity, token, Kind.RELEASE) for identity, token in lost], [])
            self._look_for_due()

    async def purge(self) -> None:
        """Forget done entries that are older than their handler's retention, in small batches."""
        for handler in self._handlers:
            while True:
                gone = await self._store.operator.purge(
                    app=self._parts.app,
                    handler=handler.name,
                    older_than=handler.retention.total_seconds(),
                    limit=PURGE_BATCH,
                )
                self.purged[handler.name] += gone
                if gone < PURGE_BATCH:
                    break
                await asyncio.sleep(0)
