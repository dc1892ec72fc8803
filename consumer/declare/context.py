"""What a handler knows of its attempt and what it wants to tell the world, and what a `reconcile` answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

import msgspec

from consumer.declare.outgoing import HeaderItems, outgoing_of
from consumer.errors import ConsumerError
from consumer.message import Headers, Message, Outgoing
from consumer.rules import keys

__all__ = ["Context", "Done", "HeaderItems", "NotDone", "Publish", "Reconciled", "Unknown"]

R = TypeVar("R")


class Context:
    """One attempt, seen by its handler.

    Args:
        identity: the entry's 16 bytes.
        key: the key as stored.
        tenant: whose key space the key is in.
        token: the fencing token of this attempt.
        attempt: counts from 1; a redrive starts it anew.
        message: the bytes and headers as they arrived.
        carried: adds the context of the trace to outgoing headers; `None`: nothing is traced.

    Attributes:
        tenant: whose key space the key is in; `public` where there are no tenants.
        fencing_token: greater than that of every earlier attempt of any key: a resource that remembers the greatest one it
            has seen can refuse an attempt that was believed dead.
        attempt: counts from 1; a redrive starts it anew.
        message: the bytes and headers as they arrived.
    """

    __slots__ = (
        "_carried",
        "_identity",
        "_key",
        "_over",
        "_published",
        "attempt",
        "fencing_token",
        "message",
        "tenant",
    )

    def __init__(
        self,
        *,
        identity: bytes,
        key: bytes,
        tenant: str,
        token: int,
        attempt: int,
        message: Message,
        carried: Callable[[Headers], Headers] | None = None,
    ) -> None:
        self._carried = carried
        self._identity = identity
        self._key = key
        self._published: list[Outgoing] = []
        self._over = False
        self.tenant = tenant
        self.fencing_token = token
        self.attempt = attempt
        self.message = message

    @property
    def key(self) -> str:
        """The key as text. Bytes that are not UTF-8 are kept: `ctx.key.encode("utf-8", "surrogateescape")` restores them."""
        return self._key.decode("utf-8", "surrogateescape")

    @property
    def idempotency_key(self) -> str:
        """26 characters to pass downstream: the same for every attempt of this entry, another for every other entry."""
        return keys.idempotency_key(self._identity)

    @property
    def published(self) -> tuple[Outgoing, ...]:
        """What was published so far, in order. It leaves with the entry's commit, or not at all."""
        return tuple(self._published)

    def publish(
        self,
        topic: str,
        value: Any,
        *,
        ordering_key: str | None = None,
        headers: HeaderItems = (),
        delay: float | timedelta = 0,
    ) -> None:
        """Publish a message together with the commit of this attempt; nothing leaves when the attempt fails.

        Its id is derived from the entry and from how many were published before: a handler that publishes the same messages
        in the same order on every attempt gives them the same ids.

        Args:
            topic: where to; letters, digits, `.`, `_` and `-`.
            value: anything that msgspec encodes, encoded as JSON at once; bytes pass as they are. At most 1 MiB.
            ordering_key: messages of one topic and ordering key stay in order; `None`: no order.
            headers: names and values. `tenant` is carried on from this message, and where the process traces
                `traceparent` and `tracestate` name the attempt, unless they are given.
            delay: seconds (or a timedelta) from the commit until it may be published.

        Raises:
            ConsumerError: the attempt is over (a task that the handler left behind).
            ValueError: an argument is out of range; nothing was published.
            TypeError: `value` is of a type that msgspec cannot encode.
        """
        if self._over:
            raise ConsumerError(f"publish({topic!r}) after its attempt was over: nothing would commit it")
        out = outgoing_of(
            keys.outgoing_id(self._identity, len(self._published)),
            topic,
            value,
            ordering_key=ordering_key,
            headers=headers,
            delay=delay,
        )
        if self.tenant != "public" and not any(name == "tenant" for name, _ in out.headers):
            out = msgspec.structs.replace(out, headers=(*out.headers, ("tenant", self.tenant.encode())))
        if self._carried is not None and (more := self._carried(out.headers)) is not out.headers:
            out = msgspec.structs.replace(out, headers=more)
        self._published.append(out)

    def revoke(self) -> None:
        """End the attempt: from now on `publish` raises."""
        self._over = True


class Publish(msgspec.Struct, frozen=True):
    """A message for `Done(publish=[…])`; the fields are the arguments of `Context.publish`."""

    topic: str
    value: Any
    ordering_key: str | None = None
    headers: HeaderItems = ()
    delay: float | timedelta = 0


class Done(msgspec.Struct, Generic[R], frozen=True):
    """The attempt had its effect: the entry becomes done, and the handler is not started again.

    Args:
        result: what the handler would have returned; stored and replayed.
        publish: what it would have published; it leaves with the commit. `ctx.publish` does the same.
    """

    result: R
    publish: Sequence[Publish] = ()


class NotDone(msgspec.Struct, frozen=True):
    """The attempt had no effect: one new start is permitted, with a new fencing token. Nothing is published."""


class Unknown(msgspec.Struct, frozen=True):
    """It still cannot be said: ask again later. Nothing is published."""


Reconciled = Done[Any] | NotDone | Unknown
