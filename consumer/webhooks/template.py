"""What is signed, as a template over bytes: `{id}.{timestamp}.{body}`."""

from __future__ import annotations

import string
from collections.abc import Mapping

from consumer.errors import SettingsError

__all__ = ["FIELDS", "Template"]

FIELDS = frozenset({"id", "timestamp", "body", "url", "method", "params"})
"""What a template may name."""


class Template:
    """A template, parsed.

    Args:
        text: literal text and `{field}`s.

    Raises:
        SettingsError: it names something else, or `{id}` without literal text between it and its neighbours: the same
            signed bytes would then have several readings.
    """

    def __init__(self, text: str) -> None:
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as fault:
            raise SettingsError(f"signed={text!r}: {fault}") from None
        self._parts: list[tuple[bytes, str | None]] = []
        for literal, name, form, conversion in parsed:
            if name is not None and (name not in FIELDS or form or conversion):
                raise SettingsError(
                    f"signed={text!r}: {{{name}}} is none of {', '.join(sorted(FIELDS))}; mend the template"
                )
            self._parts.append((literal.encode(), name))
        self.fields = frozenset(name for _, name in self._parts if name is not None)
        self.id_borders = self._borders(text)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """Return the signed bytes."""
        return b"".join(literal if name is None else literal + values[name] for literal, name in self._parts)

    def _borders(self, text: str) -> str:
        """Return the characters beside `{id}`: an id that holds one could be split in two ways."""
        borders = ""
        names = [name for _, name in self._parts]
        for place, name in enumerate(names):
            if name != "id":
                continue
            before, after = self._parts[place][0], b""
            if place + 1 < len(self._parts):
                after = self._parts[place + 1][0]
            inner = (place > 0, place + 1 < len(names) and any(names[place + 1 :]))
            if (inner[0] and not before) or (inner[1] and not after):
                raise SettingsError(
                    f"signed={text!r}: {{id}} touches another field, so that signed bytes can be read in several ways"
                )
            borders += (before[-1:] if inner[0] else b"").decode() + (after[:1] if inner[1] else b"").decode()
        return borders
