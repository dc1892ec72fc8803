"""What a child process prints, line by line, however long a line is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["pass_through"]

_CHUNK = 64 * 1024
_LONGEST = 1024 * 1024


async def pass_through(stream: asyncio.StreamReader | None, heard: Callable[[str], None]) -> None:
    """Read a stream to its end.

    Args:
        stream: of a child process.
        heard: given every line without its end; one of more than 1 MiB comes in parts, bytes that are no UTF-8 replaced.
    """
    rest = b""
    while stream is not None and (chunk := await stream.read(_CHUNK)):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            lines.append(rest)
            rest = b""
        for line in lines:
            heard(line.decode(errors="replace"))
    if rest:
        heard(rest.decode(errors="replace"))
