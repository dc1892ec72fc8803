"""outbox -> sink: publish what is committed, forget what is acknowledged, park what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from consumer.errors import BrokerUnavailable, SettingsError, StoreUnavailable
from consumer.path.parts import Parts
from consumer.ports.outbox import Outbox
from consumer.ports.transport import HELD_BACK, Sink

__all__ = ["Relay"]

_log = logging.getLogger("consumer.relay")

BATCH = 500
POLL = 0.25
PAUSE = 1.0


class Relay:
    """One relay: order within an ordering key is kept because a shard of the outbox has one owner.

    Args:
        parts: whose worker owns the shards.
        outbox: what is committed and not sent.
        sink: where it goes.

    Attributes:
        published, parked: how many messages the sink has acknowledged, and refused for good.
        broker_away: the last batch could not be published; it is tried again.
    """

    def __init__(self, parts: Parts, outbox: Outbox, sink: Sink) -> None:
        self._parts = parts
        self._outbox = outbox
        self._sink = sink
        self._wake = asyncio.Event()
        self.stopping = False
        self.published = 0
        self.parked = 0
        self.broker_away = False

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()

    def stop(self) -> None:
        """Take nothing more; what is being published is finished and marked."""
        self.stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Relay until `stopping`."""
        while not self.stopping:
            try:
                taken = await self.pass_on()
                self.broker_away = False
                if taken < BATCH and not self.stopping:
                    await self._woken()
            except StoreUnavailable as fault:
                self.broker_away = False
                self._parts.away.refused(fault)
                await asyncio.sleep(PAUSE)
            except (BrokerUnavailable, SettingsError) as fault:  # a permission may be given back
                self.broker_away = True
                _log.warning("outgoing messages wait in the outbox: %s", fault)
                await asyncio.sleep(PAUSE)

    async def pass_on(self) -> int:
        """Publish one batch; return how many were taken.

        Raises:
            BrokerUnavailable, StoreUnavailable: some may be published; all of them will be, again with the same ids.
            SettingsError: the broker refuses who we are; as above, when it does not any more.
        """
        pending = await self._outbox.take(self._parts.worker, BATCH)
        if not pending:
            return 0
        began = time.time_ns()
        published = await self._sink.publish([(entry.seq, entry.outgoing) for entry in pending])
        for entry, done in zip(pending, published, strict=True):
            if done.refused != HELD_BACK:
                self._parts.tracing.sent(entry.outgoing, began, done.refused)
        sent = [p.seq for p, done in zip(pending, published, strict=True) if done.refused is None]
        refused = [(p.seq, done.refused) for p, done in zip(pending, published, strict=True) if done.refused]
        await self._outbox.sent(sent)
        # Followers of a refused one stay as they are, behind it.
        parked = [(seq, reason) for seq, reason in refused if reason != HELD_BACK]
        if parked:
            await self._outbox.park(parked)
            _log.error("parked %d outgoing messages that the sink refuses: %s", len(parked), parked[0][1])
        self.published += len(sent)
        self.parked += len(parked)
        return len(pending)

    async def _woken(self) -> None:
        # Not `asyncio.wait_for`: before Python 3.12 a cancellation that meets a set event is lost in it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        self._wake.clear()
