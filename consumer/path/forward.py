"""Webhooks on their way to the broker: published together, and said to be taken only after its acknowledgement."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from consumer.declare.handler import Handler
from consumer.entry import Landing
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Message, Outgoing
from consumer.path.coalesce import Coalesced
from consumer.path.keying import Unkeyed, born_dead
from consumer.ports.tracing import Tracing
from consumer.ports.transport import HELD_BACK, Sink

__all__ = ["FORWARD_LIMIT", "SOURCE", "Forwarder", "Leaving", "leaving_of"]

_log = logging.getLogger("consumer.ingest")

SOURCE = "message-source"
"""The header that names the provider: at the consumer, the message's source is the broker."""

FORWARD_LIMIT = 10.0
"""Seconds for which the broker may keep a sender waiting; what was handed to it may arrive all the same."""

LOOK_LIMIT = 2.0
"""Seconds after which a broker that has not answered a look counts as away."""


class Leaving(msgspec.Struct, frozen=True):
    """An event on its way to its topic.

    Attributes:
        outgoing: what is published.
        at: for each handler of the topic that can key it: the handler, the tenant, and the message as keyed here.
    """

    outgoing: Outgoing
    at: tuple[tuple[Handler, str, Message], ...]

    def refused(self, app: str, reason: str) -> list[Landing]:
        """Return the dead letters of an event that the broker refuses for good: one a handler, with its bytes.

        Redriven they run from the store, which has no such limit.
        """
        return [
            born_dead(app, handler, message, Unkeyed("broker", reason, tenant))
            for handler, tenant, message in self.at
        ]


def leaving_of(
    app: str, name: str, made: Sequence[tuple[Handler, Message, Landing]], *, source: str
) -> Leaving:
    """Return one message for all handlers of a topic.

    It has every header that a handler would have seen in the store, so each makes the same key of it.

    Args:
        app: the app's name.
        name: the event's, signed: a second delivery of the event is published under the same `message-id`.
        made: handler, message and entry for each handler that can key it; not empty.
        source: the provider's name.
    """
    first = made[0][1]
    headers = dict.fromkeys(pair for _, message, _ in made for pair in message.headers)
    body = first.value or b""
    parts = msgspec.msgpack.encode(["forwarded", app, source, first.topic, name, body])
    outgoing = Outgoing(
        hashlib.sha256(parts).digest()[:16],
        first.topic,
        body,
        (*headers, (SOURCE, source.encode())),
        _ordering_key(made),
    )
    return Leaving(outgoing, tuple((handler, landing.tenant, message) for handler, message, landing in made))


def _ordering_key(made: Sequence[tuple[Handler, Message, Landing]]) -> str | None:
    """Return the ordering key of the first handler with a rule for it; the record key of Kafka, so it must be text."""
    for handler, _, landing in made:
        if handler.order is not None and landing.lane is not None:
            try:
                return landing.lane.decode()
            except UnicodeDecodeError:
                return landing.lane.hex()
    return None


class Forwarder:
    """Publishes events of webhooks to topics that live on a broker.

    Requests share a call of the sink: what comes while one is under way makes up the next one. While the broker does
    not take the last one, a request is told at once; one at a time tries.

    Args:
        app: the app's name.
        sink: acknowledges what is durable (`acks=all`).
        topics: of webhooks, that live on the broker.
        look: raises `SettingsError` where one of the topics does not exist, `BrokerUnavailable` where nobody answers.
        tracing: draws what is published.
        limit: see `FORWARD_LIMIT`.
    """

    def __init__(
        self,
        app: str,
        sink: Sink,
        topics: Sequence[str],
        look: Callable[[Sequence[str]], Awaitable[None]],
        tracing: Tracing,
        *,
        limit: float = FORWARD_LIMIT,
    ) -> None:
        self._app = app
        self._sink = sink
        self._topics = tuple(sorted(set(topics)))
        self._look = look
        self._tracing = tracing
        self._limit = limit
        self._publish = Coalesced(self._together)
        self._trying = False
        self._fault: str | None = None
        self._unready: str | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait for a call of the sink to begin."""
        return self._publish.waiting

    def takes(self, topic: str) -> bool:
        """Whether `topic` lives on the broker."""
        return topic in self._topics

    async def forward(self, leaving: Sequence[Leaving]) -> list[Landing]:
        """Publish events; durable at the broker when this returns.

        Returns:
            The dead letters of what the broker refuses for good: they are not durable yet.

        Raises:
            BrokerUnavailable: it is not known which of them arrived; the sender comes again, and their keys tell.
        """
        if self._trying and self._fault is not None:
            raise BrokerUnavailable(f"not asked: {self._fault}")
        try:
            async with asyncio.timeout(self._limit):
                refused = await self._publish(leaving)
        except TimeoutError:
            fault = BrokerUnavailable(f"the broker has kept a sender waiting for {self._limit:g} s")
            self._failed(fault)
            raise fault from None
        dead = [
            one.refused(self._app, reason) for one, reason in zip(leaving, refused, strict=True) if reason
        ]
        return [landing for landings in dead for landing in landings]

    async def check(self) -> None:
        """Look at the topics at start; a broker that is away is waited for behind the readiness.

        Raises:
            SettingsError: a topic does not exist; the text says how to make it.
        """
        try:
            await self._look(self._topics)
        except BrokerUnavailable as fault:
            self._said(str(fault))

    async def answers(self) -> bool:
        """Whether the broker answers now, and has the topics."""
        try:
            async with asyncio.timeout(LOOK_LIMIT):
                await self._look(self._topics)
        except (BrokerUnavailable, SettingsError) as fault:
            self._said(str(fault))
        except TimeoutError:
            self._said(f"the broker has not answered within {LOOK_LIMIT:g} s")
        else:
            self._said(None)
        return self._unready is None

    async def idle(self) -> None:
        """Wait until nothing is being published."""
        await self._publish.idle()

    async def _together(self, leaving: Sequence[Leaving]) -> list[str | None]:
        """Publish what several requests bring; return why each was refused for good, `None`: it is durable."""
        self._trying = True
        try:
            refused = await self._in_order(leaving)
        except BrokerUnavailable as fault:
            self._failed(fault)
            raise
        except SettingsError as fault:  # it refuses who we are: the sender can only come again
            self._failed(fault)
            raise BrokerUnavailable(str(fault)) from fault
        finally:
            self._trying = False
        if self._fault is not None:
            self._fault = None
            _log.warning("the broker takes webhooks again")
        return refused

    async def _in_order(self, leaving: Sequence[Leaving]) -> list[str | None]:
        refused: list[str | None] = [None] * len(leaving)
        places = list(range(len(leaving)))
        while places:
            began = time.time_ns()
            sent = await self._sink.publish([(None, leaving[place].outgoing) for place in places])
            behind = []
            for place, done in zip(places, sent, strict=True):
                if done.refused == HELD_BACK:  # another request's fault: it goes with the next call
                    behind.append(place)
                    continue
                refused[place] = done.refused
                self._tracing.sent(leaving[place].outgoing, began, done.refused)
            places = behind
        return refused

    def _failed(self, fault: Exception) -> None:
        if self._fault is None:
            _log.warning("the broker does not take webhooks, their senders are told to come again: %s", fault)
        self._fault = str(fault)

    def _said(self, trouble: str | None) -> None:
        """Remember what a look has found, and log it where that is news."""
        if trouble is not None and self._unready is None:
            _log.warning("not ready, webhooks go to the broker: %s", trouble)
        elif trouble is None and self._unready is not None:
            _log.warning("the broker answers again")
        self._unready = trouble
