"""Signs of life without a clock: a process holds a file's lock, which the kernel frees when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os

__all__ = ["Signs"]

_COUNT = 8
"""Bytes of the count of beats in a lock file."""


class Signs:
    """One lock file per worker in `<database>.workers`, each with a count of its beats.

    A `flock` belongs to an open file description. A child that was forked without exec shares it, so a worker
    whose process is gone counts as alive until such children are gone too: late, never too early.

    Args:
        directory: where the files are; it is made when it is not there.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._held: dict[int, int] = {}

    def make(self, worker: int) -> None:
        """Give a new worker its sign of life.

        Raises:
            OSError: the file cannot be made, or is locked by somebody else.
        """
        os.makedirs(self._directory, exist_ok=True)  # noqa: PTH103
        descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, bytes(_COUNT), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._held[worker] = descriptor

    def beat(self, worker: int) -> None:
        """Count one more beat. Without effect where the file is gone."""
        with contextlib.suppress(OSError):
            descriptor = self._held.get(worker)
            if descriptor is not None:
                _count_one(descriptor)
                return
            # Another handle of this process opened the worker, and holds the lock.
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
            try:
                _count_one(descriptor)
            finally:
                os.close(descriptor)

    def beats(self, worker: int) -> float:
        """Return how often it has beaten; 0 where the file is gone."""
        try:
            with open(self._path(worker), "rb") as file:  # noqa: PTH123
                return float(int.from_bytes(file.read(_COUNT), "big"))
        except OSError:
            return 0.0

    def take_over(self, worker: int) -> bool:
        """Whether the worker's process is gone. If so its lock is ours: nobody decides it beside us."""
        if worker in self._held:
            return False
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # It is made before the worker's row is seen: somebody has removed it, or moved the database.
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[worker] = descriptor
        return True

    def drop(self, worker: int) -> None:
        """Let go of a lock, as the end of the process would. The file stays."""
        descriptor = self._held.pop(worker, None)
        if descriptor is not None:
            os.close(descriptor)

    def remove(self, worker: int) -> None:
        """Let go of a lock and remove its file: the worker's row says that it is closed."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(worker))  # noqa: PTH108
        self.drop(worker)

    def drop_all(self) -> None:
        """Let go of all locks, as the end of the process would."""
        for worker in list(self._held):
            self.drop(worker)

    def _path(self, worker: int) -> str:
        return f"{self._directory}/{worker}"


def _count_one(descriptor: int) -> None:
    count = int.from_bytes(os.pread(descriptor, _COUNT, 0), "big") + 1
    os.pwrite(descriptor, count.to_bytes(_COUNT, "big"), 0)
