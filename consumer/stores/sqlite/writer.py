"""One writer at a time per file: across processes, and across the connections of one process."""

from __future__ import annotations

import fcntl
import os

__all__ = ["WriterLock"]


class WriterLock:
    """A `flock` on `<database>.writer`, held from before BEGIN IMMEDIATE until after COMMIT or ROLLBACK.

    SQLite's own lock is polled: whoever polls with growing pauses starves beside somebody who writes all the
    time. The kernel queues the waiters of a `flock` and frees it when its holder dies. It belongs to an *open
    file description*, so each connection opens the file itself. Used by one thread.

    Args:
        path: the lock file; it is made when it is not there, and stays.
    """

    __slots__ = ("_fd", "_held", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._held = False

    @property
    def held(self) -> bool:
        """Whether this connection is the writer."""
        return self._held

    def acquire(self) -> None:
        """Wait until this connection is the writer, for ever if need be: who waits for the thread gives up.

        Raises:
            OSError: the lock file cannot be made.
        """
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._held = True

    def release(self) -> None:
        """Let the next one write. Without effect where it is not held."""
        if self._held:
            self._held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it and let go of the file."""
        self._held = False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
