"""Resources that work with some stores only: what asks for one is refused on another, before anything is consumed."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from consumer.declare.complaints import listed, type_name
from consumer.declare.handlers import Handler
from consumer.declare.resources import ResourceRegistry
from consumer.errors import SettingsError
from consumer.ports.store import Store
from consumer.settings import redacted

__all__ = ["check_resources"]


def check_resources(
    store: Store,
    url: str,
    handlers: Iterable[Handler],
    resources: ResourceRegistry,
    given: Container[Any] = (),
) -> None:
    """Refuse handlers that ask for a resource which does not work with this store (`declare.resources.only_on`).

    Args:
        store: need not be open.
        url: where it is, for the text.
        handlers: what is to run on it.
        resources: what is declared.
        given: types whose values are ready-made (tests).

    Raises:
        SettingsError: names the handler and the mend (exit code 78).
    """
    dialect = store.capabilities.dialect
    for handler in handlers:
        for kind in handler.needs:
            resource = None if kind in given else resources.get(kind)
            if resource is not None and resource.dialects and dialect not in resource.dialects:
                raise SettingsError(
                    f"at start: {handler.name} asks for {type_name(kind)}, which {resource.where} yields on "
                    f"{listed(resource.dialects)} only, and the store is {redacted(url)}; use such a store, or ask for tx: Tx"
                )
