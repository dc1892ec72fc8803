"""Strict decoders: junk, blanks and set bits beyond the end are refused, where the usual ones skip them."""

from __future__ import annotations

import binascii
import re
from typing import Literal

__all__ = ["Encoding", "decoded", "from_base64", "from_hex"]

Encoding = Literal["hex", "base64", "text"]
"""How a signature is written; `text`: it is compared as it stands (a token)."""

_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")


def from_hex(value: bytes) -> bytes | None:
    """Return what the hexadecimal digits mean (either case), `None` where there is anything else, blanks included."""
    return binascii.unhexlify(value) if _HEX.fullmatch(value) else None


def from_base64(value: bytes) -> bytes | None:
    """Return what the standard alphabet with its padding means; `None` for junk, and for unused bits that are set."""
    try:
        plain = binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        return None
    return plain if plain and binascii.b2a_base64(plain, newline=False) == value else None


def decoded(value: bytes, encoding: Encoding) -> bytes | None:
    """Return a signature's bytes, `None` where it is not written in that encoding."""
    if encoding == "hex":
        return from_hex(value)
    if encoding == "base64":
        return from_base64(value)
    return value or None
