"""`Handler`: a validated declaration, as the path uses it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from consumer.declare.context import Context, Reconciled
from consumer.declare.keyrules import KeyRule
from consumer.declare.names import checked_tenant
from consumer.declare.reconcile import ask
from consumer.declare.signature import Asks
from consumer.declare.tx import Tx
from consumer.errors import ConsumerError
from consumer.message import Message
from consumer.rules import decode, keys
from consumer.rules.modes import AtMostOnce, Mode

__all__ = ["Handler"]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Handler:
    """An operation: one name, one key rule, one mode; a topic, an endpoint and a webhook are ways into it.

    Attributes:
        name: part of the identity of every key; never changes.
        topics: what it subscribes to.
        mode: what is promised.
        timeout: seconds that one attempt may take.
        retention: how long its done entries are remembered.
        concurrency: at most so many attempts at once in a process; `None`: as many as there are slots.
        ordered: messages of one ordering key are run one at a time, in the order of their arrival.
        order: the rule that names a message's ordering key; `None`: what it was sent with.
        batch: how many messages one call takes (`Batch[T]`); `None`: one, by itself.
        same: the fields that make two payloads of one key the same; `None`: the raw bytes.
        function: the user's.
        where: `shop.pay:charge (pay.py:22)`, for messages and errors.
        asks: what the function is called with.
        key: the key rule.
        tenant: the tenant rule; `None`: everything is `public`.
        decoder: of the payload type; `None`: the handler takes raw bytes.
        reconcile_asks: what `mode.reconcile` is called with; `None` where there is none.
        named: it was given a `name=` of its own.
        ways_in: how its messages arrive, for people: `topic orders.placed`, `POST /payments`.
    """

    name: str
    topics: tuple[str, ...]
    mode: Mode
    timeout: float
    retention: timedelta
    concurrency: int | None
    ordered: bool
    batch: int | None
    same: tuple[str, ...] | None
    function: Callable[..., Any]
    where: str
    asks: Asks
    key: KeyRule
    tenant: KeyRule | None
    decoder: msgspec.json.Decoder[Any] | None
    reconcile_asks: Asks | None
    named: bool
    order: KeyRule | None = None
    ways_in: list[str] = field(default_factory=list)

    @property
    def needs(self) -> tuple[Any, ...]:
        """The resource types that the function asks for."""
        return self.asks.needs

    @property
    def reconcile_needs(self) -> tuple[Any, ...]:
        """The resource types that `mode.reconcile` asks for."""
        return () if self.reconcile_asks is None else self.reconcile_asks.needs

    def add_way_in(self, text: str) -> None:
        """Remember one more way in (an endpoint, a webhook); `Handlers.check` then wants `same=`."""
        if text not in self.ways_in:
            self.ways_in.append(text)

    def decode(self, message: Message) -> Any:
        """Return the payload of a message.

        Raises:
            Undecodable: it has none; the reason is for people.
        """
        if self.decoder is None:
            return decode.body(message.value)
        return decode.decode(message.value, self.decoder)

    def key_of(self, payload: Any, message: Message) -> bytes:
        """Return the key of a decoded message.

        Raises:
            BadKey: it has none that can be a key.
        """
        return keys.checked(self.key.find(payload, message))

    def tenant_of(self, payload: Any, message: Message) -> str:
        """Return whose key space a message is in: `public` where there is no rule, or nothing was found.

        Raises:
            BadKey: it is not printable ASCII of 1 to 64 characters.
        """
        if self.tenant is None:
            return "public"
        try:
            return checked_tenant(self.tenant.find(payload, message))
        except keys.BadKey as fault:
            text = str(fault)
            raise keys.BadKey(
                text if text.startswith("tenant:") else text.replace("key:", "tenant:", 1)
            ) from None

    def lane_of(self, payload: Any, message: Message) -> bytes | None:
        """Return the ordering key of a decoded message, at most 255 bytes; `None`: it has no order.

        Without a rule it is the Kafka record key, by which partitions keep their order, else the ordering key that it was
        published with. A longer one is told by its digest.

        Raises:
            BadKey: the rule of `ordered=` finds none in it that can be a key.
        """
        if not self.ordered:
            return None
        if self.order is not None:
            try:
                return keys.checked(self.order.find(payload, message))
            except keys.BadKey as fault:
                raise keys.BadKey(f"ordered: {str(fault).removeprefix('key: ')}") from None
        sent = message.record_key
        if sent is None and message.ordering_key is not None:
            sent = message.ordering_key.encode("utf-8", "surrogatepass")
        if sent is not None and len(sent) > keys.LONGEST_KEY:
            return b"sha256:" + hashlib.sha256(sent).hexdigest().encode()
        return sent

    def fingerprint_of(self, payload: Any, message: Message) -> bytes:
        """Return 16 bytes that tell two payloads of one key apart.

        Raises:
            BadKey: a field of `same=` holds something that JSON cannot.
        """
        if self.same is None:
            return keys.fingerprint_of_bytes(message.value)
        try:
            return keys.fingerprint_of_fields(payload, self.same)
        except Exception as fault:
            raise keys.BadKey(
                f"key: same={self.same!r} cannot be compared ({type(fault).__name__})"
            ) from fault

    def encode_result(self, result: Any) -> bytes | None:
        """Return a result as it is stored: JSON; `None` for `None`.

        Raises:
            TypeError: msgspec cannot encode it.
        """
        return None if result is None else _encode(result)

    def call(
        self, payload: Any, ctx: Context, tx: Tx | None, resources: Mapping[Any, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Start the function with what its signature asks for; await what is returned.

        Args:
            payload: as `decode` made it.
            ctx: of this attempt.
            tx: of this attempt; `None` where the mode has no transaction.
            resources: by type; at least those of `needs`.
        """
        running: Coroutine[Any, Any, Any] = self.asks.call(self.function, (payload,), ctx, tx, resources)
        return running

    async def reconcile(self, ctx: Context, resources: Mapping[Any, Any]) -> Reconciled:
        """Ask `mode.reconcile` what became of an attempt. What `Done` publishes is the caller's to publish, by `ctx`.

        Args:
            ctx: a context of its own, with the doubtful attempt's token and message.
            resources: by type; at least those of `reconcile_needs`.

        Raises:
            ConsumerError: there is no reconcile, or it answered with something else.
            Exception: whatever it raises: still unknown.
        """
        if (
            not isinstance(self.mode, AtMostOnce)
            or self.mode.reconcile is None
            or self.reconcile_asks is None
        ):
            raise ConsumerError(f"{self.where}: has no reconcile")
        return await ask(self.mode.reconcile, self.reconcile_asks, ctx, resources)
