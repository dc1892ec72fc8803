"""From bytes to a payload, under limits: every body that cannot be one is refused with a reason, never with a crash.

What msgspec refuses by itself (NaN, Infinity, numbers without end, lone surrogates, malformed JSON, wrong types) keeps its
reason. What it lets through, or answers differently from one call stack to the next, is decided here: the length, null and
empty bodies, bytes that are not UTF-8 in fields that nobody reads, and depth. Of a duplicate key the last one wins, as in
every common JSON reader; unknown fields are the payload type's own policy (`forbid_unknown_fields`).
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TypeVar

import msgspec

__all__ = ["DEEPEST_BODY", "LONGEST_BODY", "LONGEST_REASON", "Undecodable", "body", "decode", "mistranslated"]

LONGEST_BODY = 1024 * 1024
"""Bytes of the longest body on every way in."""

DEEPEST_BODY = 100
"""Arrays and objects that a body may nest. The interpreter's own limit depends on its version and on how deep the caller's
stack is, so that one message would be a payload today and a dead letter tomorrow."""

LONGEST_REASON = 200
"""Characters of the longest reason."""

_T = TypeVar("_T")


class Undecodable(ValueError):
    """A body that is not a payload of its handler.

    Attributes:
        reason: one printable line of at most 200 characters for people; of the payload it holds field names only.
    """

    def __init__(self, reason: str) -> None:
        self.reason = _one_line(reason)
        super().__init__(self.reason)


def body(value: bytes | None) -> bytes:
    """Return the body of a message for a handler that takes raw bytes: any bytes at all, the empty ones too.

    Args:
        value: the body as it arrived; `None` is a tombstone.

    Raises:
        Undecodable: it is a tombstone, or longer than 1 MiB.
    """
    if value is None:
        raise Undecodable("tombstone: null value")
    if len(value) > LONGEST_BODY:
        raise Undecodable(f"too long: {len(value)} bytes, at most {LONGEST_BODY} are allowed")
    return value


def decode(value: bytes | None, decoder: msgspec.json.Decoder[_T]) -> _T:
    """Return the payload that the JSON text `value` holds.

    Args:
        value: the body as it arrived; `None` is a tombstone.
        decoder: of the handler's payload type.

    Raises:
        Undecodable: it is none, for whatever reason, an exception of the payload type's own checks included.
    """
    text = body(value)
    if not text or text.isspace():
        raise Undecodable("empty body")
    if not text.isascii():
        _check_utf8(text)
    try:
        payload = decoder.decode(text)
    except msgspec.MsgspecError as fault:
        raise Undecodable(_without_values(str(fault))) from None
    except RecursionError:
        raise Undecodable(_TOO_DEEP) from None
    except Exception as fault:
        # a payload type's __post_init__ may raise anything, and its text may hold values
        raise Undecodable(f"{type(fault).__name__} in the payload type's own checks") from fault
    if text.count(b"{") + text.count(b"[") > DEEPEST_BODY and _depth(text) > DEEPEST_BODY:
        raise Undecodable(_TOO_DEEP)
    return payload


def mistranslated(fault: Exception) -> str:
    """Return the reason for what an application's translation of a body raised: msgspec's text, or the error's name alone.

    Args:
        fault: it; the text of any other error may hold values.
    """
    if isinstance(fault, msgspec.MsgspecError):
        return _one_line(f"in its translation: {_without_values(str(fault))}")
    return f"{type(fault).__name__} in its translation"


_TOO_DEEP = f"nested too deep: at most {DEEPEST_BODY} levels are allowed"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP = bytes({0x5B: 1, 0x7B: 1, 0x5D: 0xFF, 0x7D: 0xFF}.get(byte, 0) for byte in range(256))
_VALUE = re.compile(r"Invalid (enum )?value .*?( - at `\$[^`]*`)?", re.DOTALL)


def _check_utf8(text: bytes) -> None:
    # msgspec does not look into what it skips: without this a field that nobody declared may hold any bytes
    try:
        text.decode()
    except UnicodeDecodeError as fault:
        raise Undecodable(f"not UTF-8 (byte {fault.start})") from None


def _depth(text: bytes) -> int:
    """Return how deep well-formed JSON nests, without a Python-level loop: 1 MiB of brackets takes about 30 ms."""
    steps = _STRING.sub(b"", text).translate(_STEP)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _without_values(reason: str) -> str:
    """Take values of the payload out of msgspec's text: reasons are shown to people who may not see payloads."""
    found = _VALUE.fullmatch(reason)
    if found is None:
        return reason
    return f"Invalid {found[1] or ''}value{found[2] or ''}"


def _one_line(reason: str) -> str:
    line = "".join(letter if letter.isprintable() else " " for letter in reason[: 2 * LONGEST_REASON])
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"
