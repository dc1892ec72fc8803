"""Reading a request that nobody has vouched for: one header of a name, of bounded length, in the one form that is right."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import msgspec

from consumer.webhooks.encoding import Encoding, decoded
from consumer.webhooks.refusal import Refusal
from consumer.webhooks.row import Place, Row, Signature, Timestamp
from consumer.webhooks.values import Reason, Request

__all__ = ["LONGEST_HEADER", "MOST_SIGNATURES", "Reader", "Signatures", "fresh", "member"]

LONGEST_HEADER = 4096
"""Bytes of the longest header that is looked at."""

MOST_SIGNATURES = 16
"""Signatures examined in one request. Senders list one for each living secret; more cost time and mean nothing."""

_DIGITS = re.compile(rb"[0-9]{1,15}")
_LENGTH = {"s": 10, "ms": 13}


class Signatures(NamedTuple):
    """What a signature header held: (version, bytes) each, and the other pairs of a list of pairs."""

    found: list[tuple[str, bytes]]
    pairs: dict[str, bytes]


class Reader:
    """One request, read by one row.

    Args:
        request: as it arrived.
        row: which names count. Of several prefixes the first that occurs is used for all names: a mixture of two
            families of headers is nobody's.
    """

    def __init__(self, request: Request, row: Row) -> None:
        self.request = request
        self.row = row
        self.prefix = row.prefixes[0]
        self._fields: dict[bytes, list[bytes]] = {}
        for name, value in request.headers:
            self._fields.setdefault(name.lower(), []).append(value)
        if len(row.prefixes) > 1:
            places = [row.signature.name] + [
                place.name for place in (row.event_id, _of(row.timestamp)) if place
            ]
            for prefix in row.prefixes:
                if any(f"{prefix}{name}".encode() in self._fields for name in places):
                    self.prefix = prefix
                    break

    def header(self, name: str) -> bytes | None:
        """Return the header's value, `None` where it is missing.

        Raises:
            Refusal: it occurs twice, or is too long.
        """
        values = self._fields.get((self.prefix + name).encode())
        if not values:
            return None
        if len(values) > 1:
            raise Refusal(Reason.DUPLICATE, f"{self.prefix}{name} occurs {len(values)} times")
        if len(values[0]) > LONGEST_HEADER:
            raise Refusal(Reason.MALFORMED, f"{self.prefix}{name} is longer than {LONGEST_HEADER} bytes")
        return values[0]

    def value(self, place: Place, signatures: Signatures) -> bytes | None:
        """Return what stands at a place, `None` where nothing does.

        Raises:
            Refusal: see `header`.
        """
        if place.where == "header":
            return self.header(place.name)
        if place.where == "pair":
            return signatures.pairs.get(place.name)
        return member(self.request.body, place.name)

    def signatures(self) -> Signatures:
        """Return the signatures, at most `MOST_SIGNATURES`, those that are not written properly left out.

        Raises:
            Refusal: there is none.
        """
        where = self.row.signature
        name = self.prefix + where.name
        value = member(self.request.body, where.name) if where.layout == "body" else self.header(where.name)
        if value is None:
            raise Refusal(Reason.MISSING, f"{name} is missing")
        written, pairs = _split(value, where, name)
        if len(written) > MOST_SIGNATURES:
            raise Refusal(Reason.MALFORMED, f"{name} holds more than {MOST_SIGNATURES} signatures")
        found = _decoded(written, self.row.encoding)
        if not found:
            raise Refusal(Reason.MALFORMED, f"{name} holds no signature of the expected form")
        return Signatures(found, pairs)

    def timestamp(self, signatures: Signatures) -> tuple[bytes, Timestamp]:
        """Return the digits of the time of sending.

        Raises:
            Refusal: they are missing, or no digits.
        """
        where = self.row.timestamp
        assert where is not None, "asked only of rows that have one"  # noqa: S101
        value = self.value(where.place, signatures)
        name = self.prefix + where.place.name
        if value is None:
            raise Refusal(Reason.MISSING, f"the timestamp {name} is missing")
        if not _DIGITS.fullmatch(value):
            raise Refusal(Reason.MALFORMED, f"the timestamp {name} is not a whole number of 1 to 15 digits")
        return value, where


def fresh(digits: bytes, where: Timestamp, now: float, tolerance: float) -> float:
    """Return the time of sending in seconds since 1970, once it is known to lie within the tolerance, past and future.

    Args:
        digits: of `Reader.timestamp`.
        where: their unit.
        now: seconds since 1970.
        tolerance: seconds.

    Raises:
        Refusal: it lies outside; digits of another length than today's do in any case, and are refused even if
            leading zeros would make them a time of today: what is signed is text, and has one spelling.
    """
    sent = int(digits) / (1000 if where.unit == "ms" else 1)
    age = math.floor(now) - sent if where.unit == "s" else now - sent
    if len(digits) != _LENGTH[where.unit] or abs(age) > tolerance:
        late = Reason.STALE if age > 0 else Reason.FUTURE
        raise Refusal(late, f"the timestamp {where.place.name} lies more than {tolerance:g} s off")
    return sent


def member(body: bytes, path: str) -> bytes | None:
    """Return a member of a JSON object, text or whole number, as bytes; `None` for everything else. Never raises.

    Args:
        body: any bytes.
        path: names, separated by dots.
    """
    node: msgspec.Raw | bytes = body
    *outer, last = path.split(".")
    try:
        for name in outer:
            node = _object(node)[name]
        return str(_scalar(_object(node)[last])).encode()  # a number of thousands of digits is no text
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None


def _split(value: bytes, where: Signature, name: str) -> tuple[list[tuple[str, bytes]], dict[str, bytes]]:
    if where.layout == "pairs":
        return _pairs(value, where, name)
    if where.layout == "versions":
        entries = [entry.partition(b",") for entry in value.split(b" ")]
        return [(version.decode("latin-1"), text) for version, comma, text in entries if comma], {}
    prefix = where.prefix.encode()
    if not value.startswith(prefix):
        raise Refusal(Reason.MALFORMED, f"{name} does not begin with {where.prefix}")
    return [("", value[len(prefix) :])], {}


def _pairs(value: bytes, where: Signature, name: str) -> tuple[list[tuple[str, bytes]], dict[str, bytes]]:
    written: list[tuple[str, bytes]] = []
    pairs: dict[str, bytes] = {}
    for entry in value.split(where.separator.encode()):
        key, equals, text = entry.partition(b"=")
        known = key.decode("latin-1")
        if not equals:
            raise Refusal(Reason.MALFORMED, f"{name} is no list of pairs")
        if known == where.key:
            written.append(("", text))
        elif known in pairs:
            raise Refusal(Reason.DUPLICATE, f"{name} names a pair twice")
        else:
            pairs[known] = text
    if not written:
        raise Refusal(Reason.MISSING, f"{name} holds no pair {where.key}")
    return written, pairs


def _decoded(written: list[tuple[str, bytes]], encoding: Encoding) -> list[tuple[str, bytes]]:
    both = ((version, decoded(text, encoding)) for version, text in written)
    return [(version, plain) for version, plain in both if plain is not None]


def _of(timestamp: Timestamp | None) -> Place | None:
    return timestamp.place if timestamp is not None else None


_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_scalar = msgspec.json.Decoder(str | int).decode
