"""What all services share: how one is found, how it is stopped and started again, and that it ends with us."""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Protocol, Self

from tests.services.ports import HOST, free_port

__all__ = [
    "HOST",
    "Given",
    "Server",
    "Service",
    "Unavailable",
    "answers",
    "close",
    "folder_for",
    "free_port",
    "guardian",
    "required",
    "wait_until_up",
]


class Unavailable(Exception):
    """This service cannot be had here; the text says why."""


def required() -> bool:
    return os.environ.get("REQUIRE_SERVICES", "") not in {"", "0"}


class Server(Protocol):
    """Something that listens, and can be taken away and given back."""

    origin: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class Given:
    """A server that somebody else runs: an outage cannot be made here."""

    def __init__(self, variable: str) -> None:
        self.origin = f"the address in {variable}"

    def start(self) -> None: ...

    def stop(self) -> None:
        import pytest

        pytest.skip(f"needs a server of its own to stop, and has {self.origin}")

    kill = pause = resume = stop

    def close(self) -> None: ...


class Service(ABC):
    """One server of one kind, shared by the whole run. Every verb blocks; all may be called from any thread."""

    name: ClassVar[str]
    variable: ClassVar[str]
    _shared: ClassVar["dict[type[Service], Service]"] = {}

    url: str
    """Where it is: a URL, or host:port for Kafka. Stays the same over stop and start."""

    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server = server

    @classmethod
    def shared(cls) -> Self:
        """The run's one server of this kind, started at the first call. Raises Unavailable."""
        found = Service._shared.get(cls)
        if found is None:
            found = Service._shared[cls] = cls._find()
            found.start()
        assert isinstance(found, cls)
        return found

    @classmethod
    def _find(cls) -> Self:
        if address := os.environ.get(cls.variable):
            return cls(address, Given(cls.variable))
        from tests.services import docker

        if docker.has(cls.image()):
            return cls.in_container()
        return cls.on_this_machine()

    @classmethod
    def fetch(cls) -> None:
        """Download what the first start would download. Raises Unavailable."""
        from tests.services import docker

        if not os.environ.get(cls.variable) and not docker.has(cls.image()):
            cls.packages()

    @classmethod
    @abstractmethod
    def image(cls) -> str: ...

    @classmethod
    @abstractmethod
    def in_container(cls) -> Self: ...

    @classmethod
    @abstractmethod
    def on_this_machine(cls) -> Self: ...

    @classmethod
    @abstractmethod
    def packages(cls) -> object:
        """Fetch what a local server needs, unless it is there already."""

    def start(self) -> None:
        """Up and answering, on the same port with the same data. Nothing happens if it is up."""
        self.server.start()

    def stop(self) -> None:
        """An immediate, orderly end: clients lose their connections now."""
        self.server.stop()

    def kill(self) -> None:
        """kill -9 of the server and all of its processes."""
        self.server.kill()

    def pause(self) -> None:
        """Stop answering while connections stay open (SIGSTOP)."""
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()

    @property
    def origin(self) -> str:
        return self.server.origin

    def __repr__(self) -> str:
        return f"<{self.name} at {self.url}, {self.origin}>"


# ------------------------------------------------------------------------------------------------------- probes


def answers(port: int, hello: bytes, expected: bytes, offset: int = 0) -> bool:
    """Whether the server on this port replies to `hello` with `expected` at `offset`."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(hello)
            reply = b""
            while len(reply) < offset + len(expected):
                part = connection.recv(4096)
                if not part:
                    return False
                reply += part
            return reply[offset:].startswith(expected)
    except OSError:
        return False


def wait_until_up(what: str, is_up, still_there=lambda: True, patience: float = 120) -> None:
    deadline = time.monotonic() + patience
    while not is_up():
        if not still_there():
            raise Unavailable(f"{what} ended while it was starting")
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} did not answer within {patience:.0f} s")
        time.sleep(0.03)


# ---------------------------------------------------------------------------------------------------- our own end


class _Guardian:
    """Our side of guardian.py; started with the first server."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = os.getpid()

    def tell(self, verb: str, *arguments: object) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("guardian.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
            atexit.register(self.close)
        assert self._process.stdin is not None
        print(verb, *arguments, sep="\t", file=self._process.stdin, flush=True)

    def close(self) -> None:
        """Everything ends; returns when it has."""
        if self._process is None or os.getpid() != self._owner:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)


guardian = _Guardian()


def close() -> None:
    """End every server of this run."""
    while Service._shared:
        _, service = Service._shared.popitem()
        service.server.close()
    guardian.close()


def folder_for(name: str) -> Path:
    """A temporary folder that goes when we go."""
    folder = Path(tempfile.mkdtemp(prefix=f"test-{name}-"))
    guardian.tell("folder", folder)
    return folder
