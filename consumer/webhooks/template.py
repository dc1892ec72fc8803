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
        SettingsError: it names something else.

    Attributes:
        fields: what it names.
        id_borders: the characters beside `{id}`: an id that holds one could be split in two ways.
        id_touches: nothing stands between `{id}` and another field: only an id of a fixed length has one reading.
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
        self.id_borders, self.id_touches = self._borders()

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """Return the signed bytes."""
        return b"".join(literal if name is None else literal + values[name] for literal, name in self._parts)

    def _borders(self) -> tuple[str, bool]:
        borders, touches = b"", False
        for place, (before, name) in enumerate(self._parts):
            if name != "id":
                continue
            after = self._parts[place + 1 :]
            if place > 0:
                borders, touches = borders + before[-1:], touches or not before
            if any(field for _, field in after):
                borders, touches = borders + after[0][0][:1], touches or not after[0][0]
        return borders.decode("latin-1"), touches
