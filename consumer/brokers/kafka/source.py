"""The source: a member of a consumer group that delivers until it is told that it need not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.errors import InconsistentGroupProtocolError, InvalidSessionTimeoutError, KafkaError
from aiokafka.structs import TopicPartition

from consumer.brokers.kafka.access import OPEN, Access
from consumer.brokers.kafka.assignment import Assignment
from consumer.brokers.kafka.committer import Committer
from consumer.brokers.kafka.connect import (
    Consumer,
    broken,
    close_consumer,
    complaint,
    is_refusal,
    look_for_topics,
    missing_from,
    new_consumer,
    refusal,
    translated,
)
from consumer.brokers.kafka.health import Health
from consumer.brokers.kafka.horizon import Memory, check_horizon
from consumer.brokers.kafka.lag import lag_of
from consumer.brokers.kafka.partition import Receipt
from consumer.brokers.kafka.position import FirstPosition
from consumer.brokers.kafka.reader import Reader
from consumer.brokers.kafka.topics import missing_text, missing_topics
from consumer.errors import BrokerUnavailable, SettingsError
from consumer.message import Delivery
from consumer.ports.transport import Lag

__all__ = ["KafkaSource"]

_log = logging.getLogger(__name__)

_CONNECT = 5.0  # seconds to connect
_COMMIT = 5.0  # seconds for one commit
_LEAVE = 5.0  # seconds to leave the group
_RECONNECT = 2.0  # seconds between two tries to replace a broken consumer
_LISTEN = 2.0  # seconds between two tries to join a group that cannot be joined, and two looks for a topic that is gone
_UNPOLLED = 60.0  # seconds without a poll after which it is not healthy


class KafkaSource:
    """`ports.transport.Source` on aiokafka.

    Offsets are committed behind, contiguous and monotone per (partition, assignment epoch): never beyond an unfinished
    delivery. With the broker away `poll` returns nothing and `healthy` is false; aiokafka reconnects by itself, and what
    was acknowledged meanwhile is committed then.

    Args:
        bootstrap: `host:port[,host:port]`.
        group: the consumer group.
        in_hand_limit: deliveries of one partition between the committed one and the newest; at the limit that partition
            alone is not read on, while polling goes on.
        in_hand_bytes: bytes of unfinished deliveries that this member may hold, about; shared evenly by its partitions.
        first_position: where a partition without a committed offset begins: `earliest`, `latest`, or seconds since
            1970: the first message that is not older by its timestamp. `latest` also holds for partitions that
            are added later: what they got before this member saw them is never read.
        rebalance_timeout: seconds that a member has to give up its partitions; two thirds of it are for `on_revoked`,
            a sixth for the last commit.
        session_timeout: seconds without a heartbeat (they share the event loop) after which the broker takes this
            member for dead.
        commit_interval: seconds between two commits at least.
        instance: a name that outlives restarts (static membership); `None`: an ordinary member.
        access: TLS and SASL.
        memory: how long the handlers of each topic remember their keys; checked at the start.
    """

    def __init__(
        self,
        bootstrap: str,
        group: str,
        *,
        in_hand_limit: int = 1000,
        in_hand_bytes: int = 256 * 1024 * 1024,
        first_position: FirstPosition = "earliest",
        rebalance_timeout: float = 30.0,
        session_timeout: float = 10.0,
        commit_interval: float = 0.2,
        instance: str | None = None,
        access: Access = OPEN,
        memory: Memory | None = None,
    ) -> None:
        if isinstance(first_position, str) and first_position not in {"earliest", "latest"}:
            raise SettingsError(
                f"first position {first_position!r}: must be earliest, latest or seconds since 1970"
            )
        if in_hand_limit < 1:
            raise SettingsError(f"in-hand limit {in_hand_limit}: must be 1 or more")
        self._bootstrap = bootstrap
        self._group = group
        self._instance = instance
        self._access = access
        self._memory = memory or {}
        self._first_position = first_position
        self._in_hand_limit = in_hand_limit
        self._in_hand_bytes = in_hand_bytes
        self._rebalance_timeout = rebalance_timeout
        self._session_timeout = session_timeout
        self._topics: tuple[str, ...] = ()
        self._consumer: Consumer | None = None
        self._reader: Reader | None = None
        self._assignment = Assignment(drain=rebalance_timeout * 2 / 3, settle=self._settle, gone=self._gone)
        self._health = Health(bootstrap, self._last_fetch, self._ask)
        self._committer = Committer(
            self._commit,
            self._assignment.ours,
            interval=commit_interval,
            timeout=_COMMIT,
            committed=self._health.heard,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._polled_at = time.monotonic()
        self._reconnect_at = 0.0
        self._listen_at = 0.0
        self._complaint = ""

    async def start(self, topics: Sequence[str], on_revoked: Callable[[], Awaitable[None]]) -> None:
        """Join and subscribe; returns when connected, before the first assignment.

        Args:
            topics: what to deliver.
            on_revoked: awaited before partitions are given up, for a bounded time: whoever runs deliveries finishes them.

        Raises:
            SettingsError: a topic does not exist (the text says how to make it), or access is refused.
            BrokerUnavailable: nobody answers.
        """
        if self._consumer is not None:
            raise RuntimeError("this source is started already")
        if not topics:
            raise SettingsError("Kafka: no topics to subscribe to")
        if missing := await missing_topics(self._bootstrap, topics, self._access):
            raise SettingsError(missing_text(self._bootstrap, missing))
        await check_horizon(self._bootstrap, topics, self._memory, self._access)
        self._topics = tuple(topics)
        self._assignment.on_revoked = on_revoked
        await self._connect()
        self._polled_at = time.monotonic()
        self._health.heard()
        self._tasks = [asyncio.create_task(self._committer.run()), asyncio.create_task(self._health.run())]

    async def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """Return up to `limit` deliveries, waiting up to `timeout` seconds for the first. Must be called all the time.

        Partitions take turns and share the limit. Returns nothing, sooner or later, while a rebalance is under way, the
        broker is away, or every partition has as many deliveries, or bytes, in hand as it may; nothing, after `timeout`, before
        `start` and after `stop`. Safe to cancel: what was read and not
        returned comes with the next call.

        Raises:
            SettingsError: access to a topic or to the group is refused, or a codec is missing: people must mend it. Called
                again, it goes on with what is not refused, and comes upon the refusal every few seconds.
        """
        self._polled_at = time.monotonic()
        deadline = self._polled_at + timeout
        if not await self._connected(deadline):
            return []
        if time.monotonic() >= self._listen_at:
            self._listen()
        if not await self._assigned(deadline):
            return []
        return [] if self._reader is None else await self._reader.read(limit, deadline)

    def held(self, delivery: Delivery) -> bool:
        """Return whether this arrival is still ours: its partition was not given up since."""
        receipt: Receipt = delivery.receipt
        return receipt[0].live

    def ack(self, delivery: Delivery) -> None:
        """Every handler's entry permits it: this delivery need not come again. Void when it is not held any more."""
        partition, offset = delivery.receipt
        if not partition.live:
            return
        heavy = self._reader is not None and self._reader.heavy(partition)
        moved = partition.acked(offset)
        if moved:
            self._committer.moved()
        if self._reader is not None and (moved or heavy):
            self._reader.room()

    async def stop(self) -> None:
        """Commit what was acknowledged and leave; with the broker away it takes up to about 12 seconds. Never raises."""
        consumer = self._consumer
        if consumer is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._assignment.ready.clear()
        if not await self._committer.settle(_COMMIT):
            _log.warning(
                "the last offsets are not committed: their messages are delivered again and recognised"
            )
        self._consumer = self._reader = None
        self._assignment.give_up()
        if not await close_consumer(consumer, _LEAVE):
            _log.warning("left without saying so: the group notices after %.0f s", self._session_timeout)

    @property
    def healthy(self) -> bool:
        """Whether the broker answers, `poll` is called, and there are no `troubles`."""
        polled = time.monotonic() - self._polled_at < _UNPOLLED
        return self._consumer is not None and polled and self._health.ok and not self.troubles

    @property
    def rebalances(self) -> int:
        """How often partitions were assigned to this member."""
        return self._assignment.rebalances

    async def lag(self) -> list[Lag]:
        """Ask the broker how far each partition of ours is behind.

        Raises:
            BrokerUnavailable: it does not answer.
        """
        if self._consumer is None or not self._assignment.ready.is_set():
            return []
        return await lag_of(self._bootstrap, self._consumer, self._assignment.ours(), _COMMIT)

    @property
    def troubles(self) -> list[str]:
        """What is wrong with the group, with topics and with single partitions, for people; empty where nothing is."""
        if not self._assignment.ready.is_set():
            return [self._complaint] if self._complaint else []
        found = [f"{p}: {p.trouble}" for p in self._assignment.partitions.values() if p.trouble]
        return found + [f"topic {topic} does not exist any more" for topic in self._gone()]

    @property
    def assigned(self) -> list[str]:
        """The partitions that are ours now, as `topic/partition`."""
        return [str(partition) for partition in self._assignment.partitions.values()]

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Connect a new consumer, subscribed.

        Raises:
            BrokerUnavailable: nobody answers.
            SettingsError: access is refused.
        """
        consumer = new_consumer(
            self._bootstrap,
            self._group,
            rebalance_timeout=self._rebalance_timeout,
            session_timeout=self._session_timeout,
            instance=self._instance,
            access=self._access,
        )
        try:
            with translated(self._bootstrap):
                async with asyncio.timeout(_CONNECT):
                    await consumer.start()
        except BaseException:
            await close_consumer(consumer, 0)
            raise
        # Subscribed only now: `start` would wait for the assignment, which takes as long as others need to let go.
        consumer.subscribe(self._topics, listener=self._assignment)
        self._consumer = consumer
        self._reader = Reader(
            self._bootstrap,
            consumer,
            self._assignment,
            first=self._first_position,
            in_hand_limit=self._in_hand_limit,
            in_hand_bytes=self._in_hand_bytes,
            moved=self._committer.moved,
        )

    async def _connected(self, deadline: float) -> bool:
        """Return whether there is a consumer that works; replace one whose background tasks have ended."""
        if self._consumer is None:
            # Not started, or stopped: whoever polls on in a loop must not keep the event loop busy.
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            return False
        if not broken(self._consumer):
            return True
        if time.monotonic() >= self._reconnect_at:
            self._reconnect_at = time.monotonic() + _RECONNECT
            _log.error("the Kafka client has stopped working; replacing it")
            old = self._consumer
            self._assignment.give_up()
            try:
                await self._connect()
            except BrokerUnavailable as error:
                _log.warning("%s", error)
            else:
                await close_consumer(old, 0)
                return True
        await asyncio.sleep(max(0.0, min(deadline, self._reconnect_at) - time.monotonic()))
        return False

    def _listen(self) -> None:
        """Hear why the group cannot be joined, and have the brokers asked for a topic that is gone.

        Raises:
            SettingsError: the group refuses us.
        """
        self._listen_at = time.monotonic() + _LISTEN
        if self._assignment.ready.is_set():
            self._complaint = ""
            if self._gone():
                look_for_topics(self._consumer)
            return
        error = complaint(self._consumer)
        if error is None:
            return
        if isinstance(error, KafkaError) and is_refusal(error):
            raise SettingsError(refusal(self._bootstrap, error)) from error
        text = f"consumer group {self._group} cannot be joined: {_reason(error)}"
        if text != self._complaint:
            _log.error("%s; trying again every %.0f s", text, _LISTEN)
        self._complaint = text

    def _gone(self) -> list[str]:
        return [] if self._consumer is None else missing_from(self._consumer, self._topics)

    async def _assigned(self, deadline: float) -> bool:
        """Return whether partitions may be read, waiting for it: not before the first assignment, nor in a rebalance."""
        ready = self._assignment.ready
        if not ready.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await ready.wait()
        return ready.is_set()

    # --- for the committer and the look at the broker's health --------------------------------------------------------

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self._consumer is not None:
            await self._consumer.commit(dict(offsets))

    async def _settle(self) -> bool:
        return await self._committer.settle(self._rebalance_timeout / 6)

    def _last_fetch(self) -> int:
        consumer = self._consumer
        if consumer is None:
            return 0
        return max((consumer.last_poll_timestamp(tp) or 0 for tp in consumer.assignment()), default=0)

    async def _ask(self) -> None:
        if self._consumer is not None:
            await self._consumer.committed(TopicPartition(self._topics[0], 0))


def _reason(error: Exception) -> str:
    if isinstance(error, InconsistentGroupProtocolError):
        return (
            "a consumer of another kind is in it (its assignment strategy is not roundrobin);"
            " end that one, or choose another consumer_group"
        )
    if isinstance(error, InvalidSessionTimeoutError):
        return "the broker's group.min.session.timeout.ms and group.max.session.timeout.ms exclude our session timeout"
    return str(error) or type(error).__name__
