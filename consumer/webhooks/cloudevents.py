"""CloudEvents 1.0 over HTTP: binary, structured and batched; and the OPTIONS handshake of its webhook specification.

The specification has no signature. A bearer token says who sends; a signing provider around it says that nothing was
changed either.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from consumer.errors import SettingsError
from consumer.webhooks.items import elements, named
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.signed import SignedProvider, kept
from consumer.webhooks.table import BY_NAME
from consumer.webhooks.values import Item, Provider, Reason, Refused, Reply, Request, Verified

__all__ = ["CloudEvents", "CloudEventsProvider"]

REQUIRED: Final = ("id", "source", "specversion", "type")
_ORIGIN = re.compile(rb"[A-Za-z0-9.:_\-]{1,255}")


class _Event(msgspec.Struct):
    id: str
    source: str
    specversion: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEventsProvider:
    """See `consumer.webhooks.values.Provider` for the verbs, `CloudEvents` for what it is made of.

    Attributes:
        outer: who verifies the request.
        origins: who may ask to send; `*` is everybody.
        rate: requests a minute that are promised to be taken; `None`: any number.
        batched: batches were asked for.
        guarded: put a guard beside names that the signature does not cover.
    """

    outer: Provider
    origins: tuple[str, ...] = ()
    rate: int | None = None
    batched: bool = False
    guarded: bool = True

    @property
    def name(self) -> str:
        """Always `cloudevents`."""
        return "cloudevents"

    @property
    def methods(self) -> tuple[str, ...]:
        """`OPTIONS` where somebody may ask."""
        return ("OPTIONS", "POST") if self.origins else ("POST",)

    @property
    def accepted(self) -> int:
        """202, "accepted, not processed", is the right word here."""
        return BY_NAME["cloudevents"].accepted

    @property
    def signs_body(self) -> bool:
        """As the outer provider does."""
        return self.outer.signs_body

    @property
    def retry_horizon(self) -> float | None:
        """As the outer provider says; the specification says nothing."""
        return self.outer.retry_horizon

    def check(self) -> None:
        """Read the outer provider's secrets once."""
        self.outer.check()

    def greet(self, request: Request, now: float) -> Reply | Refused | None:  # noqa: ARG002 - the port's signature
        """Consent to an origin that is on the list. The callback address is never fetched: anybody may name any."""
        if request.method != "OPTIONS":
            return None
        origins = [value for name, value in request.headers if name.lower() == b"webhook-request-origin"]
        if len(origins) != 1 or not _ORIGIN.fullmatch(origins[0]):
            return Refused(
                400, Reason.MALFORMED, "webhook-request-origin is missing, malformed or there twice"
            )
        if "*" not in self.origins and origins[0].decode() not in self.origins:
            return Refused(401, Reason.MISMATCH, "webhook-request-origin is not among origins=")
        rate = b"*" if self.rate is None else str(self.rate).encode()
        return Reply(
            200,
            headers=(
                (b"allow", b"POST"),
                (b"webhook-allowed-origin", origins[0]),
                (b"webhook-allowed-rate", rate),
            ),
        )

    def verify(self, request: Request, now: float) -> Verified | Refused:
        """Let the outer provider decide, then read the events. What is authentic and no event is kept without a name."""
        outer = self.outer.verify(request, now)
        if isinstance(outer, Refused):
            return outer
        kind = _kind(request)
        if kind == "batched" and not self.batched:
            return Refused(415, Reason.MALFORMED, "a batch, and batched=True was not given")
        signed = self.outer.signs_body and kind != "binary"
        items, remark = self._items(request, kind)
        headers = kept(request, (), "ce-" if kind == "binary" else None)
        return Verified(items, signed, outer.timestamp, outer.secret_index, headers, remark)

    def answer(self, request: Request, verified: Verified) -> Reply | None:
        """Let the outer provider answer, where it has a handshake."""
        return self.outer.answer(request, verified)

    def _items(self, request: Request, kind: str) -> tuple[tuple[Item, ...], str | None]:
        body = request.body
        if kind == "batched":
            found = elements(body)
            if found is None:
                return (self._item(None, body),), "the batch is no JSON array, or too long"
            items = tuple(self._item(_structured_name(each), each) for each in found)
            lacking = sum(item.event_id is None for item in items)
            return items, f"{lacking} of {len(items)} are no CloudEvents" if lacking else None
        name = _structured_name(body) if kind == "structured" else _binary_name(request)
        guard = self._guard(body) if kind == "binary" else None
        remark = None if name is not None else f"no CloudEvent in {kind} mode"
        return ((self._item(None, body) if name is None else Item(name, body, guard)),), remark

    def _item(self, name: str | None, value: bytes) -> Item:
        return Item(name, value, None if name is not None else self._guard(value))

    def _guard(self, value: bytes) -> bytes | None:
        return hashlib.sha256(value).digest() if self.guarded and self.outer.signs_body else None


def CloudEvents(  # noqa: N802
    *,
    secret: Secrets | None = None,
    signed_by: Provider | None = None,
    origins: tuple[str, ...] = (),
    rate: int | None = None,
    batched: bool = False,
    guard: bool = True,
) -> CloudEventsProvider:
    """Return a provider of CloudEvents, from whoever is let in.

    Args:
        secret: a bearer token, expected in `authorization`; in the query it would stand in every log.
        signed_by: or a provider that signs, e.g. `StandardWebhooks(secret=…)`.
        origins: who may ask with OPTIONS to send here; `("*",)` is everybody. It is consent, not authentication.
        rate: requests a minute, told to who asks.
        batched: batches are welcome; they must not be sent unless the receiver has asked for them.
        guard: tell replays apart by a digest of the body where `signed_by` does not cover the attributes (binary mode).

    Raises:
        SettingsError: not exactly one of `secret` and `signed_by` is given, or the rate is none.
    """
    if (secret is None) == (signed_by is None):
        raise SettingsError(
            "CloudEvents: give either secret= (a bearer token) or signed_by= (a provider that signs)"
        )
    if rate is not None and rate < 1:
        raise SettingsError(f"CloudEvents: rate={rate!r}: requests a minute, 1 or more, are expected")
    row = BY_NAME["cloudevents"]
    outer = signed_by
    if outer is None and secret is not None:
        outer = SignedProvider(row=row, rotation=Rotation(secret, row.secret, row.algorithm))
    assert outer is not None, "one of the two is there"  # noqa: S101
    return CloudEventsProvider(outer=outer, origins=tuple(origins), rate=rate, batched=batched, guarded=guard)


def _kind(request: Request) -> str:
    """Return the mode: the content type alone decides it (HTTP protocol binding, §3)."""
    types = [value for name, value in request.headers if name.lower() == b"content-type"]
    media = types[0].strip().lower() if len(types) == 1 else b""
    if media.startswith(b"application/cloudevents-batch"):
        return "batched"
    return "structured" if media.startswith(b"application/cloudevents") else "binary"


def _structured_name(event: bytes) -> str | None:
    try:
        found = _decode(event)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return _name(found.source, found.id) if found.specversion and found.type else None


def _binary_name(request: Request) -> str | None:
    values: dict[str, str] = {}
    for attribute in REQUIRED:
        wanted = f"ce-{attribute}".encode()
        found = [value for name, value in request.headers if name.lower() == wanted]
        if len(found) != 1:
            return None
        try:
            values[attribute] = unquote_to_bytes(found[0]).decode("utf-8")
        except UnicodeDecodeError:
            return None
    return _name(values["source"], values["id"]) if all(values.values()) else None


def _name(source: str, event_id: str) -> str | None:
    # As `Key.cloudevent()` writes it: a URI reference holds no blank, so no other pair has the same text.
    if not source or not event_id or any(letter.isspace() for letter in source):
        return None
    return named(f"{source} {event_id}".encode("utf-8", "surrogatepass"))


_decode = msgspec.json.Decoder(_Event).decode
