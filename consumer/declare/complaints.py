"""How a registration error reads: where, what is wrong, the mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any

from consumer.errors import RegistrationError

__all__ = ["complaint", "did_you_mean", "listed", "type_name", "where_of"]


def where_of(function: Callable[..., Any]) -> str:
    """Return where a function is: `shop.pay:charge (pay.py:22)`."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None)
    if name is None:
        return repr(function)
    place = f" ({PurePath(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""
    return f"{getattr(function, '__module__', '?')}:{name.replace('<locals>.', '')}{place}"


def complaint(where: str, text: str) -> RegistrationError:
    """Return the error that says `text` about the declaration at `where`."""
    return RegistrationError(f"{where}: {text}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` where one of `known` is close to `name`, what there is where few are, else nothing."""
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only; importing the package stays quick

    names = list(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(map(repr, names))}" if 0 < len(names) <= 6 else ""


def listed(names: Iterable[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def type_name(kind: Any) -> str:
    """Return a type as people write it, without its module: `Payment`, `dict[str, int]`, `Payment | None`."""
    text = kind.__qualname__ if isinstance(kind, type) else str(kind)
    return _MODULES.sub("", text)


_MODULES = re.compile(r"(?:[\w<>]+\.)+(?=\w)")
