"""A transport that sends what is written in one turn of the event loop at once: a response's head and body are two writes.

Each write is a system call and, without Nagle's delay, a packet that wakes the client; for a small response they cost more
than all that the application does.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["MOST_HELD", "Corked"]

MOST_HELD = 64 * 1024
"""Bytes that are held back at most: an application that writes on and on without waiting must meet the real transport's limits."""


class Corked(asyncio.Transport):
    """Stands before `transport`; everything but writing is that one's.

    Args:
        transport: the connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held: list[bytes | bytearray | memoryview[Any]] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """See `asyncio.WriteTransport`. It is sent at the end of this turn of the loop, or when `MOST_HELD` is reached."""
        if not data:
            return
        if not self._held:
            asyncio.get_running_loop().call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= MOST_HELD:
            self.flush()

    def close(self) -> None:
        """See `asyncio.BaseTransport`: what is held goes first."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """See `asyncio.WriteTransport`: what is held is lost."""
        self._held.clear()
        self._size = 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """See `asyncio.WriteTransport`."""
        return self._size + self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.BaseTransport`."""
        self._transport.set_protocol(protocol)

    def flush(self) -> None:
        """Send what is held now."""
        if not self._held:
            return
        held, self._held, self._size = self._held, [], 0
        if not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))
