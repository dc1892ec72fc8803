"""Keys that carry their age: a retry that comes when its key has been forgotten would be a new operation."""

from __future__ import annotations

import re

__all__ = ["age_of"]

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def age_of(key: str, now: float) -> float | None:
    """Return the seconds since a key was made, where it is a UUID of version 7 (RFC 9562 §5.7); else `None`.

    Args:
        key: as sent, unquoted.
        now: seconds since 1970. A clock that is behind the client's makes a negative age.
    """
    found = _UUID7.fullmatch(key)
    if found is None:
        return None
    return now - int(found[1] + found[2], 16) / 1000
