"""Store and broker as the settings say: which URL is opened with which adapter, and which topic lives where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from consumer.brokers.address import is_embedded, kafka_bootstrap
from consumer.declare.handlers import Handler
from consumer.errors import SettingsError
from consumer.path.routing import Router
from consumer.ports.store import Store
from consumer.ports.transport import Sink, Source
from consumer.settings import Settings, first_position
from consumer.stores import open_store

__all__ = ["Connections", "connect", "under_load"]


@dataclass(slots=True)
class Connections:
    """What a process is connected to; nothing is opened before `Store.open` and `Source.start`.

    Attributes:
        store: entries and outbox.
        reconnect: makes another handle on the same store; `None` where nobody else can see it.
        source, sink: the broker's; `None` where every topic is embedded.
        router: where outgoing messages go.
        look: asks the broker for topics; raises `SettingsError` where one does not exist, `BrokerUnavailable` where nobody
            answers. `None` where every topic is embedded.
    """

    store: Store
    reconnect: Callable[[], Store] | None
    source: Source | None
    sink: Sink | None
    router: Router
    look: Callable[[Sequence[str]], Awaitable[None]] | None = None

    async def close(self) -> None:
        """Let go of everything. Never raises."""
        stop = getattr(self.sink, "stop", None)
        if stop is not None:
            await stop()
        await self.store.close()


def under_load(handlers: Sequence[Handler], settings: Settings) -> tuple[Handler, ...]:
    """Return the handlers with the load that the settings give them; what changes a promise is not theirs to set.

    Raises:
        SettingsError: a name that no handler has, or a number below 1.
    """
    names = {handler.name for handler in handlers}
    for name, most in settings.concurrency.items():
        if name not in names:
            raise SettingsError(
                f"concurrency.{name}: no handler has this name; there are {', '.join(sorted(names))}"
            )
        if most < 1:
            raise SettingsError(f"concurrency.{name} = {most!r}: must be 1 or more")
    return tuple(
        replace(handler, concurrency=settings.concurrency.get(handler.name, handler.concurrency))
        for handler in handlers
    )


def connect(app: str, settings: Settings, handlers: Sequence[Handler]) -> Connections:
    """Choose the adapters.

    Args:
        app: the app's name.
        settings: `store`, `broker` and `topics` decide.
        handlers: whose topics are subscribed to.

    Raises:
        SettingsError: a URL cannot be one, or a topic names a broker that this process does not know.
    """
    store = open_store(settings.store, app)
    reconnect = (lambda: open_store(settings.store, app)) if store.capabilities.shared else None
    elsewhere = {topic: url for topic, url in settings.topics.items() if url != settings.broker}
    if is_embedded(settings.broker):
        for topic, url in elsewhere.items():
            if not is_embedded(url):
                raise SettingsError(
                    f"topics.{topic} = {url!r}: set broker = {url!r}, and name the embedded topics instead"
                )
        return Connections(store, reconnect, None, None, Router(app, handlers))
    for topic, url in elsewhere.items():
        if not is_embedded(url):
            raise SettingsError(f"topics.{topic} = {url!r}: a second broker cannot be used; write embedded:")
    bootstrap = kafka_bootstrap(settings.broker)
    try:
        from consumer.brokers.kafka import Access, KafkaSink, KafkaSource  # noqa: PLC0415 - only who uses Kafka needs aiokafka
        from consumer.brokers.kafka.topics import check_topics  # noqa: PLC0415
    except ModuleNotFoundError:
        raise SettingsError(
            f"broker = {settings.broker!r} needs aiokafka: pip install 'idempotent-consumer[kafka]'"
        ) from None
    access = Access(
        settings.kafka_security_protocol,
        settings.kafka_sasl_mechanism,
        settings.kafka_username,
        settings.kafka_password,
        settings.kafka_cafile,
        settings.kafka_certfile,
        settings.kafka_keyfile,
    )
    access.options()  # a certificate that cannot be read is said now
    router = Router(app, handlers, frozenset(elsewhere))
    source = KafkaSource(
        bootstrap,
        settings.consumer_group or app,
        in_hand_limit=settings.in_hand,
        in_hand_bytes=settings.in_hand_bytes,
        first_position=first_position(settings.first_position),
        instance=settings.instance,
        access=access,
        memory=_memory(router),
    )
    look = partial(check_topics, bootstrap, access=access)
    return Connections(store, reconnect, source, KafkaSink(bootstrap, access=access), router, look)


def _memory(router: Router) -> dict[str, tuple[str, float]]:
    """Return by topic the handler that forgets its keys first, and after how many seconds."""
    return {
        topic: min(((h.name, h.retention.total_seconds()) for h in handlers), key=lambda pair: pair[1])
        for topic, handlers in router.by_topic.items()
        if not router.is_embedded(topic) and handlers
    }
