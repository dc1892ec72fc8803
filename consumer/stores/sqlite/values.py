"""A handler's arguments, bound by name: `$1` is the parameter called `1`.

SQLite numbers `$n` by first appearance, so a tuple is bound wrongly where numbers repeat or come out of
order.

What SQLite has no type for is written as text that sorts as it should: datetime, date and time as ISO 8601,
UUID and Decimal as they print. A bool is 0 or 1. Lists and dicts are refused by the driver: encode them
first.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Sequence
from typing import Any

__all__ = ["bound"]

_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})
_NAMES = tuple(str(number) for number in range(1, 65))


def bound(args: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments as the driver binds them by name."""
    names = _NAMES if len(args) <= len(_NAMES) else [str(number) for number in range(1, len(args) + 1)]
    if _PLAIN.issuperset(map(type, args)):
        return dict(zip(names, args, strict=False))
    return dict(zip(names, map(_plain, args), strict=False))


def _plain(value: Any) -> Any:
    match value:
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case uuid.UUID() | decimal.Decimal():
            return str(value)
        case _:
            return value
