"""The edge to aiokafka: options, connecting, closing in a bounded time, and its errors in our words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from consumer.brokers.kafka.access import OPEN, Access
from consumer.brokers.kafka.calm import calm_loggers
from consumer.brokers.kafka.probe import explain
from consumer.errors import BrokerUnavailable, SettingsError

__all__ = [
    "Admin",
    "Consumer",
    "Producer",
    "admin",
    "broken",
    "close_consumer",
    "close_producer",
    "complaint",
    "is_refusal",
    "look_for_topics",
    "missing_from",
    "new_consumer",
    "new_producer",
    "refusal",
    "translated",
]

Consumer = Any
"""aiokafka's `AIOKafkaConsumer`, whose methods have no annotations."""

Producer = Any
"""aiokafka's `AIOKafkaProducer`."""

Admin = Any
"""aiokafka's `AIOKafkaAdminClient`."""

_new_consumer: Any = AIOKafkaConsumer
_new_producer: Any = AIOKafkaProducer
_new_admin: Any = AIOKafkaAdminClient

METADATA_AGE_MS = 30_000
"""Milliseconds after which a consumer looks at its topics anew: when a raised number of partitions is seen, at the latest."""

_NEVER_MS = 2**31 - 1
_LONGEST_REQUEST = 64 * 1024 * 1024
_BATCH = 128 * 1024
_LAST_WORDS = 1.0  # seconds that a cancelled task gets to end

_REFUSALS = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)


def new_consumer(
    bootstrap: str,
    group: str,
    *,
    rebalance_timeout: float,
    session_timeout: float,
    instance: str | None = None,
    access: Access = OPEN,
) -> Consumer:
    """Return a consumer, not started and not subscribed, with every default that loses or repeats messages overridden.

    Args:
        bootstrap: `host:port[,host:port]`.
        group: the consumer group.
        rebalance_timeout: seconds that a member has to rejoin once a rebalance has begun.
        session_timeout: seconds without a heartbeat after which the broker takes this member for dead.
        instance: static membership: the same name after a restart gets the same partitions back without a rebalance.
        access: TLS and SASL.
    """
    calm_loggers()
    return _new_consumer(
        bootstrap_servers=bootstrap,
        client_id=f"consumer-{group}",
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,  # it commits what was handed out, not what is finished
        auto_offset_reset="none",  # where to begin is said in `position`, never guessed
        isolation_level="read_committed",
        # None of (de)serializers: one bad record would stop its partition for ever.
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        rebalance_timeout_ms=int(rebalance_timeout * 1000),
        session_timeout_ms=int(session_timeout * 1000),
        heartbeat_interval_ms=int(session_timeout * 300),
        request_timeout_ms=int(
            (rebalance_timeout + 10) * 1000
        ),  # JoinGroup is answered after the whole rebalance
        # A member that has not fetched for this long leaves, and does not rejoin before it fetches again; but it must
        # not fetch during a rebalance. `KafkaSource.healthy` watches the polling instead.
        max_poll_interval_ms=_NEVER_MS,
        metadata_max_age_ms=METADATA_AGE_MS,
        **access.options(),
    )


def new_producer(bootstrap: str, *, timeout: float, access: Access = OPEN) -> Producer:
    """Return a producer, not started: every in-sync replica acknowledges, in order, without repeats per session.

    Args:
        bootstrap: `host:port[,host:port]`.
        timeout: seconds for one request. With idempotence aiokafka repeats a batch for ever: whoever sends needs
            a deadline of his own.
        access: TLS and SASL.
    """
    calm_loggers()
    return _new_producer(
        bootstrap_servers=bootstrap,
        client_id="consumer-relay",
        acks="all",
        enable_idempotence=True,
        max_batch_size=_BATCH,
        max_request_size=_LONGEST_REQUEST,  # the topic's own limit decides
        request_timeout_ms=int(timeout * 1000),
        **access.options(),
    )


@contextlib.asynccontextmanager
async def admin(bootstrap: str, *, timeout: float = 5.0, access: Access = OPEN) -> AsyncIterator[Admin]:
    """A started admin client for a few questions.

    Args:
        bootstrap: `host:port[,host:port]`.
        timeout: seconds for connecting and all questions together.
        access: TLS and SASL.

    Raises:
        BrokerUnavailable: nobody answers in time; the text names the address.
        SettingsError: the broker refuses who we are.
    """
    calm_loggers()
    client: Admin = _new_admin(
        bootstrap_servers=bootstrap, request_timeout_ms=int(timeout * 1000), **access.options()
    )
    try:
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            with translated(bootstrap):
                async with asyncio.timeout_at(deadline):
                    await client.start()
        except BrokerUnavailable as error:
            # Every source and sink asks here first, so that who is refused at the start hears why, once. Who is silent
            # is not asked again.
            if isinstance(error.__context__, TimeoutError):
                raise
            raise await explain(bootstrap, access, error) from None
        with translated(bootstrap):
            async with asyncio.timeout_at(deadline):
                yield client
    finally:
        await _bounded(client.close(), _LAST_WORDS)


@contextlib.contextmanager
def translated(bootstrap: str) -> Iterator[None]:
    """Raise aiokafka's errors, and time-outs, in our words.

    Raises:
        BrokerUnavailable: nobody answers, or the answer makes no sense; the text names the address.
        SettingsError: the broker answers and refuses; somebody must change a setting or a permission.
    """
    try:
        yield
    except TimeoutError:
        raise BrokerUnavailable(f"Kafka at {bootstrap}: no answer in time") from None
    except _REFUSALS as error:
        raise SettingsError(refusal(bootstrap, error)) from error
    except UnsupportedCodecError as error:
        raise SettingsError(f"Kafka at {bootstrap}: {error} (install the package cramjam)") from error
    except (KafkaError, OSError) as error:
        raise BrokerUnavailable(f"Kafka at {bootstrap}: {error}") from error


def is_refusal(error: Exception) -> bool:
    """Return whether the broker answered and refused: waiting does not help."""
    return isinstance(error, (*_REFUSALS, UnsupportedCodecError))


def refusal(bootstrap: str, error: KafkaError) -> str:
    """Return the text for a permission that is missing."""
    what = ", ".join(map(str, error.args)) or type(error).__name__
    return f"Kafka at {bootstrap} refuses access ({type(error).__name__}): {what}"


def broken(consumer: Consumer) -> bool:
    """Return whether a background task of `consumer` has ended: it will never deliver again and does not say so.

    Those that beat and that look for committed offsets end as others begin; with an error they have ended for good, and
    aiokafka repeats that error to whoever reads, for ever. It has no public sign of any of this, so private attributes
    are read here and nowhere else.
    """
    if any(task is not None and task.done() for task in _routines(consumer)):
        return True
    return any(
        task is not None and task.done() and not task.cancelled() and task.exception() is not None
        for task in _helpers(consumer)
    )


def complaint(consumer: Consumer) -> Exception | None:
    """Return, once, why the group cannot be joined; `None`: there is nothing to say.

    aiokafka says so only to who reads, whom we keep from reading as long as nothing is assigned; and it does not try
    again before it has said so.
    """
    try:
        consumer._coordinator.check_errors()  # noqa: SLF001 - as in `broken`
    except Exception as error:  # noqa: BLE001 - whatever it is, it is handed on
        return error
    return None


def missing_from(consumer: Consumer, topics: Sequence[str]) -> list[str]:
    """Return those of `topics` that the brokers knew nothing of when they were last asked for the state of the cluster."""
    return [topic for topic in topics if consumer.partitions_for_topic(topic) is None]


def look_for_topics(consumer: Consumer) -> None:
    """Have the brokers asked for the state of the cluster now: aiokafka asks every five minutes by itself."""
    consumer._client.force_metadata_update()  # noqa: SLF001 - as in `broken`


async def close_consumer(consumer: Consumer, seconds: float) -> bool:
    """Leave the group and close, within `seconds` plus a little.

    aiokafka's own `stop` waits for the coordinator for as long as there is none; what it leaves behind then is ended here.

    Returns:
        Whether it ended by itself, so that the group knows that we are gone.
    """
    if await _bounded(consumer.stop(), seconds):
        return True
    tasks = [*_routines(consumer), *_helpers(consumer)]
    tasks += getattr(getattr(consumer, "_fetcher", None), "_pending_tasks", ())
    await _end(tasks)
    await _bounded(consumer._client.close(), _LAST_WORDS)  # noqa: SLF001 - as in `broken`
    return False


async def close_producer(producer: Producer, seconds: float) -> None:
    """Close within `seconds` plus a little; with 0 nothing is flushed: what is under way may arrive or not."""
    sender = producer._sender.sender_task  # noqa: SLF001 - as in `broken`
    if seconds > 0 and await _bounded(producer.stop(), seconds):
        return
    producer._closed = True  # noqa: SLF001 - else it complains when it is collected
    await _bounded(producer.client.close(), _LAST_WORDS)
    await _end([sender])


def _routines(consumer: Consumer) -> list[asyncio.Task[Any] | None]:
    coordinator, fetcher = getattr(consumer, "_coordinator", None), getattr(consumer, "_fetcher", None)
    return [getattr(coordinator, "_coordination_task", None), getattr(fetcher, "_fetch_task", None)]


def _helpers(consumer: Consumer) -> list[asyncio.Task[Any] | None]:
    coordinator = getattr(consumer, "_coordinator", None)
    return [getattr(coordinator, name, None) for name in ("_heartbeat_task", "_commit_refresh_task")]


async def _bounded(work: Any, seconds: float) -> bool:
    """Run `work` for at most `seconds`; return whether it came to its end by itself.

    It did not if a cancellation ended it: aiokafka's `stop` lets out that of a fetch which it has broken off, and then
    has not closed its connections.
    """
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        return not task.cancelled() and task.exception() is None
    await _end([task])
    return False


async def _end(tasks: Sequence[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks until they end: aiokafka's answer a first cancellation by waiting for others."""
    for _ in range(3):
        alive = {task for task in tasks if task is not None and not task.done()}
        if not alive:
            break
        for task in alive:
            task.cancel()
        await asyncio.wait(alive, timeout=_LAST_WORDS)
    for ended in tasks:
        if ended is not None and ended.done() and not ended.cancelled():
            ended.exception()  # seen: nobody else will look
