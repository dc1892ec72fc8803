"""Where webhooks are made durable, as `webhooks_to` says: in the store, or on their topics' broker."""

from __future__ import annotations

from collections.abc import Iterable

from consumer.errors import SettingsError
from consumer.path.forward import Forwarder
from consumer.ports.tracing import Tracing
from consumer.settings import Settings, redacted
from consumer.worker.connect import Connections

__all__ = ["forwarder_of"]


def forwarder_of(
    app: str, settings: Settings, connections: Connections, topics: Iterable[str], tracing: Tracing
) -> Forwarder | None:
    """Return what publishes webhooks' events; `None` where all of them land in the store.

    A topic that lives in the store by `[consumer.topics]` stays there, whatever `webhooks_to` says.

    Args:
        app: the app's name.
        settings: `webhooks_to` decides.
        connections: whose sink publishes.
        topics: of the app's webhooks.
        tracing: draws what is published.

    Raises:
        SettingsError: `webhooks_to = 'broker'`, and there is none.
    """
    if settings.webhooks_to != "broker":
        return None
    sink, look = connections.sink, connections.look
    if sink is None or look is None:
        raise SettingsError(
            f"webhooks_to = 'broker': broker = {redacted(settings.broker)!r} is the store itself; "
            "set broker = 'kafka://host:port', or webhooks_to = 'store'"
        )
    living = [topic for topic in topics if not connections.router.is_embedded(topic)]
    return Forwarder(app, sink, living, look, tracing) if living else None
