"""Handlers that take effect at most once per key: messages, webhooks, HTTP requests, on the store you already have."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from consumer.declare.batch import Batch, Item
from consumer.declare.context import Context, Done, NotDone, Publish, Unknown
from consumer.declare.handlers import Handlers
from consumer.declare.keyrules import Key
from consumer.declare.tx import Row, Tx
from consumer.errors import (
    BrokerUnavailable,
    Conflict,
    ConsumerError,
    Dead,
    InDoubt,
    InFlight,
    RegistrationError,
    Reject,
    Retry,
    SchemaMismatch,
    SettingsError,
    StoreUnavailable,
)
from consumer.message import Message
from consumer.rules.backoff import Backoff
from consumer.rules.modes import AtLeastOnce, AtMostOnce, Transactional

if TYPE_CHECKING:
    from consumer.app import App, Running
    from consumer.settings import Secret, Settings

__all__ = [
    "App",
    "AtLeastOnce",
    "AtMostOnce",
    "Backoff",
    "Batch",
    "BrokerUnavailable",
    "Conflict",
    "ConsumerError",
    "Context",
    "Dead",
    "Done",
    "Handlers",
    "InDoubt",
    "InFlight",
    "Item",
    "Key",
    "Message",
    "NotDone",
    "Publish",
    "RegistrationError",
    "Reject",
    "Retry",
    "Row",
    "Running",
    "SchemaMismatch",
    "Secret",
    "Settings",
    "SettingsError",
    "StoreUnavailable",
    "Transactional",
    "Tx",
    "Unknown",
]

# Whoever only declares handlers needs neither asyncio nor the worker: these are imported when they are asked for.
_LATER = {"App": "app", "Running": "app", "Secret": "settings", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    """Import what was asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
