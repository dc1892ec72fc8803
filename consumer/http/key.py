"""The `Idempotency-Key` header field: draft-ietf-httpapi-idempotency-key-header-07 §2.1, and the bare values of real clients.

The draft wants a String of RFC 8941 (in quotation marks, with parameters that mean nothing here); most clients send the
value bare. Both spellings of one value are one key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from consumer.rules.keys import LONGEST_KEY

__all__ = ["HEADER", "KeyMalformed", "KeyMissing", "key_of"]

HEADER = "Idempotency-Key"

_PARAMETERS = (
    r"(?:;[ ]*[a-z*][a-z0-9_.*-]*"
    r"(?:=(?:[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|-?[0-9]{1,15}(?:\.[0-9]{1,3})?"
    r'|"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:|\?[01]))?)*'
)
_QUOTED = re.compile(rf'"((?:[ !#-\[\]-~]|\\["\\])*)"{_PARAMETERS}')
_BARE = re.compile(rf"([!#-+\--:<-~]+){_PARAMETERS}")
"""A bare value is visible ASCII without a comma (two fields made one on their way), a quotation mark or a semicolon."""


class KeyMissing(Exception):
    """There is no such header field."""


class KeyMalformed(Exception):
    """The header field holds no key; the text says why."""


def key_of(values: Sequence[bytes]) -> str:
    """Return the key, unquoted.

    Args:
        values: of every `Idempotency-Key` field, as they arrived.

    Raises:
        KeyMissing: there is none.
        KeyMalformed: there are several, or it is no String and no bare value, or not 1 to 255 bytes long.
    """
    if not values:
        raise KeyMissing
    if len(values) > 1:
        raise KeyMalformed(f"the header occurs {len(values)} times")
    text = values[0].decode("latin-1").strip(" \t")
    if text.startswith('"'):
        found = _QUOTED.fullmatch(text)
        if found is None:
            raise KeyMalformed('a quoted key ends with a quotation mark, and escapes only \\" and \\\\')
        key = re.sub(r'\\(["\\])', r"\1", found[1])
    else:
        found = _BARE.fullmatch(text)
        if found is None:
            raise KeyMalformed(
                "a bare key is visible ASCII without spaces, commas, semicolons and quotation marks"
                if text
                else "the key is empty"
            )
        key = found[1]
    if not 1 <= len(key) <= LONGEST_KEY:
        raise KeyMalformed(f"the key is {len(key)} bytes long; 1 to {LONGEST_KEY} are allowed")
    return key
