"""The provider that a row describes: verification on raw bytes, before anything else has looked at them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consumer.message import Headers
from consumer.webhooks.items import named, split
from consumer.webhooks.reader import Reader, Signatures, fresh
from consumer.webhooks.refusal import Refusal
from consumer.webhooks.rotation import Rotation
from consumer.webhooks.row import Row
from consumer.webhooks.signers import Signer
from consumer.webhooks.values import Item, Reason, Refused, Reply, Request, Verified

__all__ = ["TOLERANCE", "SignedProvider", "kept", "never_a_greeting", "no_answer"]

TOLERANCE = 300.0
"""Seconds that a timestamp may lie off, past or future: what all Standard Webhooks libraries use."""

Greeting = Callable[[Request, float], "Reply | Refused | None"]
Answering = Callable[[Request, Signer], "Reply | None"]
Contents = Callable[[Request, str], "list[bytes]"]


def never_a_greeting(request: Request, now: float) -> Reply | Refused | None:  # noqa: ARG001 - what most providers are
    """Return `None`: this provider has no handshake without a signature."""
    return None


def no_answer(request: Request, by: Signer) -> Reply | None:  # noqa: ARG001 - what most providers are
    """Return `None`: this provider has no signed handshake."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedProvider:
    """A provider made of its row; see `consumer.webhooks.values.Provider` for the verbs.

    Attributes:
        row: what it does.
        rotation: its secrets.
        url: the endpoint's public address, where it is signed. Of configuration, never of the `Host` header, which is
            whoever sends it.
        tolerance: seconds that a timestamp may lie off.
        guarded: put a guard beside event ids that prove nothing. Off for sources whose bodies may repeat honestly.
        methods: HTTP methods that mean something.
        greeting: its handshake without a signature.
        answering: its signed handshake.
        contents: what may have been signed, where a template cannot say it; the first is canonical.
        tokens: secrets of the greeting.
    """

    row: Row
    rotation: Rotation
    url: str = ""
    tolerance: float = TOLERANCE
    guarded: bool = True
    methods: tuple[str, ...] = ("POST",)
    greeting: Greeting = never_a_greeting
    answering: Answering = no_answer
    contents: Contents | None = None
    tokens: Rotation | None = None

    @property
    def name(self) -> str:
        """The row's name."""
        return self.row.name

    @property
    def accepted(self) -> int:
        """The status for what is stored, or known already."""
        return self.row.accepted

    @property
    def signs_body(self) -> bool:
        """The body is covered by the signature."""
        return self.row.signs_body

    @property
    def retry_horizon(self) -> float | None:
        """Seconds for which this provider repeats."""
        return self.row.retry_horizon

    def check(self) -> None:
        """Read the secrets once."""
        self.rotation.read()
        if self.tokens is not None:
            self.tokens.read()

    def greet(self, request: Request, now: float) -> Reply | Refused | None:
        """Answer a handshake that carries no signature."""
        return self.greeting(request, now)

    def answer(self, request: Request, verified: Verified) -> Reply | None:
        """Answer a signed handshake."""
        return self.answering(request, self.rotation.at(verified.secret_index))

    def verify(self, request: Request, now: float) -> Verified | Refused:
        """Decide whether the request is authentic."""
        signers = self.rotation.current(now)
        try:
            return self._verified(Reader(request, self.row), signers, now)
        except Refusal as refusal:
            return Refused(self.row.status(refusal.reason), refusal.reason, refusal.text)

    def _verified(self, reader: Reader, signers: list[tuple[int, Signer]], now: float) -> Verified:
        row, request = self.row, reader.request
        signatures = reader.signatures()
        values: dict[str, bytes] = {}
        sent: float | None = None
        if "timestamp" in row.template.fields:
            values["timestamp"], where = reader.timestamp(signatures)
            sent = fresh(values["timestamp"], where, now, self.tolerance)
        if "id" in row.template.fields:
            values["id"] = self._signed_id(reader, signatures)
        contents = self._contents(request, values)
        index = _matching(contents, signatures, signers, row.title)
        # From here on it is authentic, and only from here on may the rest of it be looked at.
        if sent is None and row.timestamp is not None:
            digits, where = reader.timestamp(signatures)
            sent = fresh(digits, where, now, self.tolerance)
        items, remark = self._items(reader, signatures, contents[0])
        return Verified(items, row.event_id_signed, sent, index, kept(request, row.keeps), remark)

    def _signed_id(self, reader: Reader, signatures: Signatures) -> bytes:
        place = self.row.event_id
        assert place is not None, "a template that names {id} has a place for it"  # noqa: S101
        value = reader.value(place, signatures)
        if value is None:
            raise Refusal(Reason.MISSING, f"{reader.prefix}{place.name} is missing")
        text = value.decode("latin-1")
        # A border character would let the same signed bytes be read as another id, time and body.
        if not re.fullmatch(place.pattern, text) or not set(text).isdisjoint(self.row.template.id_borders):
            raise Refusal(Reason.MALFORMED, f"{reader.prefix}{place.name} is no event id")
        return value

    def _contents(self, request: Request, values: Mapping[str, bytes]) -> list[bytes]:
        if self.contents is not None:
            return self.contents(request, self.url)
        url = self.url.encode()
        if request.query and b"?" not in url:
            url += b"?" + request.query
        method = request.method.encode("utf-8", "surrogateescape")
        return [self.row.template.fill({**values, "body": request.body, "url": url, "method": method})]

    def _items(
        self, reader: Reader, signatures: Signatures, content: bytes
    ) -> tuple[tuple[Item, ...], str | None]:
        row, body = self.row, reader.request.body
        if row.item_fields:
            return split(body, row.item_fields)
        authentic = content if self.contents is not None else body
        guard = hashlib.sha256(authentic).digest() if row.signs_body and self.guarded else None
        if row.event_id is None:
            return (Item(None, body, guard),), None
        value = reader.value(row.event_id, signatures)
        name = named(value, None if row.event_id.where == "body" else row.event_id.pattern)
        if name is None:
            if row.event_id.where == "header" and value is not None:
                raise Refusal(Reason.MALFORMED, f"{reader.prefix}{row.event_id.name} is no event id")
            return (Item(None, body, guard),), f"no event id in {row.event_id.where} {row.event_id.name}"
        return (Item(name, body, None if row.event_id_signed else guard),), None


def kept(request: Request, names: tuple[str, ...], prefix: str | None = None) -> Headers:
    """Return the headers that are worth keeping: an allow-list, so that no credential is ever stored.

    Args:
        request: as it arrived.
        names: in lower case; `content-type` always counts.
        prefix: of further names, e.g. `ce-`.
    """
    worth = []
    for raw, value in request.headers:
        name = raw.decode("latin-1").lower()
        if name == "content-type" or name in names or (prefix and name.startswith(prefix)):
            worth.append((name, value))
    return tuple(worth)


def _matching(
    contents: list[bytes], signatures: Signatures, signers: list[tuple[int, Signer]], title: str
) -> int:
    for index, each in signers:
        own = [plain for version, plain in signatures.found if version == each.version]
        if own and any(each.accepts(content, own) for content in contents):
            return index
    raise Refusal(Reason.MISMATCH, f"no signature is right for any of {title}'s {len(signers)} secrets")
