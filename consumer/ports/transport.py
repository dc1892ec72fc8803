"""Where messages come from and go to, and the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from consumer.message import Delivery, Outgoing

__all__ = ["HELD_BACK", "Clock", "Lag", "Measured", "Published", "Sink", "Source"]

HELD_BACK = "held back"
"""What a sink says of a message that it did not send because one before it, of the same ordering key, was refused."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """What became of one message at the sink: acknowledged, or refused for good with a reason."""

    refused: str | None = None


class Source(Protocol):
    """A broker that delivers until it is told that it need not."""

    async def start(self, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
        """Join and subscribe.

        Args:
            topics: what to deliver.
            on_revoked: awaited before partitions are given up, for a bounded time: whoever runs deliveries finishes them.

        Raises:
            SettingsError: a topic does not exist, or the first position cannot be found.
            BrokerUnavailable: nobody answers.
        """
        ...

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to `limit` deliveries, waiting up to `timeout` seconds for the first. Must be called all the time.

        Pauses a partition by itself when too many of its deliveries are in hand, and resumes it later.

        Raises:
            BrokerUnavailable: nobody answers.
            SettingsError: the broker refuses something: a permission that was taken away. Called again, it comes upon it
                again, not more often than every second or so, and delivers what is not refused.
        """
        ...

    def held(self, delivery: Delivery) -> bool:
        """Whether this arrival is still ours: its partition was not given up since."""
        ...

    def ack(self, delivery: Delivery) -> None:
        """Every handler's entry permits it: this delivery need not come again. Never beyond an unfinished one."""
        ...

    async def stop(self) -> None:
        """Commit what was acknowledged and leave, in a bounded time."""
        ...


class Lag(msgspec.Struct, frozen=True, gc=False):
    """How far one partition of ours is behind.

    Attributes:
        topic, partition: which.
        messages: offsets between the first unfinished message and the end.
        seconds: how long the first unfinished message has been in the broker, by both clocks; 0 where nothing waits.
    """

    topic: str
    partition: int
    messages: int
    seconds: float


@runtime_checkable
class Measured(Protocol):
    """A source that knows how it is doing."""

    @property
    def healthy(self) -> bool:
        """Whether the broker answers and nothing is stuck."""
        ...

    @property
    def troubles(self) -> list[str]:
        """What is wrong, one line each, for people; empty where nothing is known. Any thread may ask."""
        ...

    @property
    def rebalances(self) -> int:
        """How often partitions were assigned to this member."""
        ...

    async def lag(self) -> list[Lag]:
        """Ask the broker how far each partition of ours is behind.

        Raises:
            BrokerUnavailable: it does not answer.
        """
        ...


class Sink(Protocol):
    """A place that takes messages durably."""

    async def publish(self, messages: Sequence[tuple[int | None, Outgoing]]) -> list[Published]:
        """Publish in the given order per ordering key; (sequence or `None`, message).

        Headers: the message's own, `message-id` (hex of `Outgoing.id`, always the same for the same message),
        `ordering-key`, and `message-sequence` where there is one. After a refusal no later message of the same
        (topic, ordering key) of this call is sent: it is refused with `HELD_BACK`.

        Raises:
            BrokerUnavailable: it is not known which of them arrived; publish all again.
            SettingsError: the broker refuses who we are; publish all again when it does not any more.
        """
        ...


class Clock(Protocol):
    """The process' own clock, for local deadlines only; the store's clock decides everything that is stored."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time(self) -> float:
        """Seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
