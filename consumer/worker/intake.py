"""source -> decode -> key: polls the source and hands works to the lanes and slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from consumer.declare.handlers import Handler
from consumer.entry import Landing
from consumer.errors import BrokerUnavailable, SettingsError, StoreUnavailable
from consumer.message import Delivery
from consumer.path.fields import say_landed
from consumer.path.keying import Unkeyed, born_dead, envelope_of
from consumer.path.parts import Parts, Work
from consumer.ports.transport import Source
from consumer.worker.inhand import InHand
from consumer.worker.landing import Lander

__all__ = ["Intake"]

_log = logging.getLogger("consumer.intake")

BATCH = 500
POLL = 0.2
"""Seconds that one poll waits for a first delivery."""
CLOCKS_APART = 60.0
"""Seconds that the clocks of broker, store and this process may differ by."""
REFUSED_FOR = 30.0
"""Seconds for which a refusal counts, and until the same one is said again. A source comes upon it again every few seconds."""


class Intake:
    """The loop between a broker and the handlers of this process.

    Args:
        parts: what the path works with.
        source: the broker.
        in_hand: counts and asks again.
        dispatch: gives a work to its lane or to the slots.
        lander: lands what must run in order.
    """

    def __init__(
        self,
        parts: Parts,
        source: Source,
        in_hand: InHand,
        dispatch: Callable[[Work], None],
        lander: Lander,
    ) -> None:
        self._parts = parts
        self._source = source
        self._in_hand = in_hand
        self._dispatch = dispatch
        self._lander = lander
        self.stopping = False
        self._refusal = ""
        self._refused_at = float("-inf")
        self._said_at = float("-inf")

    @property
    def refused(self) -> bool:
        """Whether the broker has refused us lately: a permission is missing, or a codec."""
        return self._parts.clock.monotonic() - self._refused_at < REFUSED_FOR

    async def run(self) -> None:
        """Poll until `stopping`, also while nothing may start: polling keeps the membership in the consumer group.

        The source's in-hand limit bounds how much waits here.
        """
        unborn: list[tuple[Delivery, Landing]] = []
        while not self.stopping:
            self._in_hand.due(self._give)
            unborn = await self._bear_dead(unborn)
            await self._lander.land()
            try:
                deliveries = await self._source.poll(BATCH, POLL)
            except BrokerUnavailable as fault:
                _log.warning("%s", fault)
                await self._parts.clock.sleep(1.0)
                continue
            except SettingsError as fault:
                # What was taken away is given back by people, and this process has more to do than what is refused it.
                self._say_refused(str(fault))
                await self._parts.clock.sleep(POLL)
                continue
            for delivery in deliveries:
                unborn += self.take(delivery)
            await asyncio.sleep(0)  # a source that has data at hand does not wait, and nothing above need do

    def take(self, delivery: Delivery) -> list[tuple[Delivery, Landing]]:
        """Make one work per subscribed handler; return what cannot be keyed and must be born dead before the ack."""
        handlers = self._parts.router.by_topic.get(delivery.message.topic, ())
        self._in_hand.take(delivery, [handler.name for handler in handlers])
        unborn: list[tuple[Delivery, Landing]] = []
        for handler in handlers:
            envelope = (
                _unreadable(delivery)
                or self._too_old(handler, delivery)
                or envelope_of(self._parts.app, handler, delivery.message)
            )
            if isinstance(envelope, Unkeyed):
                unborn.append((delivery, born_dead(self._parts.app, handler, delivery.message, envelope)))
            else:
                self._give(Work(handler, envelope, delivery))
        return unborn

    def _too_old(self, handler: Handler, delivery: Delivery) -> Unkeyed | None:
        """Return why a message may not run: its key may have been purged, so nobody knows whether it ran already.

        An entry is never older than the broker's time of its message. A producer's clock proves nothing, so where only
        that is known the check at the start (topic's retention beside the handler's) has to do.
        """
        if delivery.taken_at is None:
            return None
        age = self._parts.clock.time() - delivery.taken_at
        remembers = handler.retention.total_seconds()
        if age <= remembers - min(CLOCKS_APART, remembers / 10):
            return None
        return Unkeyed(
            "too_old", f"{age:.0f} s old, and keys are forgotten after {remembers:.0f} s (retention=)"
        )

    def _say_refused(self, refusal: str) -> None:
        self._refused_at = now = self._parts.clock.monotonic()
        if refusal != self._refusal or now - self._said_at >= REFUSED_FOR:
            _log.error(
                "%s; mend that at the broker: this worker goes on by itself, and is not ready until then",
                refusal,
            )
            self._refusal, self._said_at = refusal, now

    def _give(self, work: Work) -> None:
        if work.envelope.lane is None:
            self._dispatch(work)
        else:
            self._lander.put(work)

    async def _bear_dead(self, unborn: list[tuple[Delivery, Landing]]) -> list[tuple[Delivery, Landing]]:
        if not unborn:
            return unborn
        try:
            landed = await self._parts.arrivals.land([landing for _, landing in unborn])
        except StoreUnavailable as fault:
            _log.warning(
                "dead letters cannot be stored yet, so their messages are not acknowledged: %s", fault
            )
            await asyncio.sleep(POLL)
            return unborn
        for (delivery, landing), how in zip(unborn, landed, strict=True):
            self._parts.observer.arrived(landing, how)
            say_landed(_log, landing, how)
            self._in_hand.permit(delivery, landing.handler)
        return []


def _unreadable(delivery: Delivery) -> Unkeyed | None:
    return None if delivery.unreadable is None else Unkeyed("decode", delivery.unreadable)
