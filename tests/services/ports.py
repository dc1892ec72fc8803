"""Ports for servers: given out once among all test processes of a machine, for as long as the one that asked lives.

A port that was only looked at belongs to nobody: until its server listens (a JVM takes seconds), and whenever that server is
stopped or restarted by a test, another test process might be given it too. So might the same process, twice in a row.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import BinaryIO

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_000
TRIES = 200

_chance = random.SystemRandom()  # whatever a test does to the seed of `random`


class _Ports:
    """What this process has been given: its locks on the bytes of one file, a byte a port. They end with the process."""

    def __init__(self) -> None:
        self._mine: set[int] = set()
        self._file: BinaryIO | None = None
        self._owner = 0

    def take(self, port: int) -> bool:
        """Make this port ours, if nobody has it and nobody listens there."""
        if self._owner != os.getpid():  # the first call, or a child: locks are not inherited
            self._owner = os.getpid()
            self._file = (Path(tempfile.gettempdir()) / f"test-ports-{os.getuid()}").open("ab")
        if port in self._mine or self._file is None:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        # What is in use stays locked: nobody else need look at it.
        self._mine.add(port)
        return not _in_use(port)


_ports = _Ports()
take = _ports.take


def free_port() -> int:
    """A port that is ours until we end, below the range that the kernel gives to outgoing connections.

    Inside that range a client that keeps dialling a stopped server's port can end up connected to itself.
    """
    for _ in range(TRIES):
        if take(port := _chance.randint(LOWEST, HIGHEST)):
            return port
    raise OSError(f"no free port between {LOWEST} and {HIGHEST}")


def pair(distance: int) -> int:
    """A port that is ours, and so is the one that is `distance` above it; this one is in the range of `free_port`."""
    for _ in range(TRIES):
        above = _chance.randint(LOWEST, HIGHEST)
        if take(above) and take(above - distance):
            return above - distance
    raise OSError(f"no two free ports {distance} apart")


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
