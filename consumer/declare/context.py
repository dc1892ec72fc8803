"""What a handler knows of its attempt and what it wants to tell the world, and what a `reconcile` answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

import msgspec

from consumer.declare.names import check_topic
from consumer.errors import ConsumerError
from consumer.message import Headers, Message, Outgoing
from consumer.rules import keys
from consumer.rules.decode import LONGEST_BODY

__all__ = ["Context", "Done", "HeaderItems", "NotDone", "Publish", "Reconciled", "Unknown"]

R = TypeVar("R")

HeaderItems = Mapping[str, bytes | str] | Iterable[tuple[str, bytes | str]]
"""Headers as a handler writes them: text is encoded as UTF-8."""

_encode = msgspec.json.Encoder().encode

_OF_THE_SINK = frozenset({"message-id", "message-sequence", "ordering-key"})


class Context:
    """One attempt, seen by its handler.

    Args:
        identity: the entry's 16 bytes.
        key: the key as stored.
        tenant: whose key space the key is in.
        token: the fencing token of this attempt.
        attempt: counts from 1; a redrive starts it anew.
        message: the bytes and headers as they arrived.

    Attributes:
        tenant: whose key space the key is in; `public` where there are no tenants.
        fencing_token: greater than that of every earlier attempt of any key: a resource that remembers the greatest one it
            has seen can refuse an attempt that was believed dead.
        attempt: counts from 1; a redrive starts it anew.
        message: the bytes and headers as they arrived.
    """

    __slots__ = ("_identity", "_key", "_over", "_published", "attempt", "fencing_token", "message", "tenant")

    def __init__(
        self, *, identity: bytes, key: bytes, tenant: str, token: int, attempt: int, message: Message
    ) -> None:
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
            headers: names and values. `tenant` is carried on from this message unless it is given.
            delay: seconds (or a timedelta) from the commit until it may be published.

        Raises:
            ConsumerError: the attempt is over (a task that the handler left behind).
            ValueError: an argument is out of range; nothing was published.
            TypeError: `value` is of a type that msgspec cannot encode.
        """
        if self._over:
            raise ConsumerError(f"publish({topic!r}) after its attempt was over: nothing would commit it")
        check_topic(topic)
        body = _body(topic, value)
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"publish({topic!r}): delay must be 0 or more seconds, not {delay}")
        if ordering_key is not None and not ordering_key:
            raise ValueError(
                f"publish({topic!r}): ordering_key is empty; leave it out where there is no order"
            )
        out = Outgoing(
            keys.outgoing_id(self._identity, len(self._published)),
            topic,
            body,
            self._headers(topic, headers),
            ordering_key,
            seconds,
        )
        self._published.append(out)

    def revoke(self) -> None:
        """End the attempt: from now on `publish` raises."""
        self._over = True

    def _headers(self, topic: str, given: HeaderItems) -> Headers:
        pairs = given.items() if isinstance(given, Mapping) else given
        headers: Headers = tuple((name, _header(topic, name, value)) for name, value in pairs)
        if self.tenant == "public" or any(name == "tenant" for name, _ in headers):
            return headers
        return (*headers, ("tenant", self.tenant.encode()))


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


def _header(topic: str, name: str, value: object) -> bytes:
    if not name:
        raise ValueError(f"publish({topic!r}): a header without a name")
    if name in _OF_THE_SINK:
        raise ValueError(f"publish({topic!r}): the header {name!r} is written by the sink")
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise ValueError(  # noqa: TRY004 - one type for every wrong argument
            f"publish({topic!r}): the header {name!r} must be text or bytes, not {type(value).__name__}"
        )
    return value


def _body(topic: str, value: Any) -> bytes:
    if value is None:
        raise ValueError(
            f"publish({topic!r}): None is no value (a tombstone cannot be published; JSON's null is b'null')"
        )
    body = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else _encode(value)
    if len(body) > LONGEST_BODY:
        raise ValueError(f"publish({topic!r}): {len(body)} bytes, at most {LONGEST_BODY} are allowed")
    return body
