"""A server as a container, where a Docker daemon is at hand."""

import functools
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tests.services.base import HOST, guardian, wait_until_up

PULL_LIMIT = 180.0


def _docker(*arguments: str, limit: float) -> bool:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, timeout=limit, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@functools.cache
def daemon() -> bool:
    """Whether a daemon answers, and soon."""
    return os.environ.get("TEST_SERVICES") != "local" and _docker(
        "version", "--format", "{{.Server.Version}}", limit=2
    )


@functools.cache
def has(image: str) -> bool:
    """Whether containers of this image can be run here; pulls it if need be."""
    if not daemon():
        return False
    return _docker("image", "inspect", image, limit=5) or _docker("pull", "--quiet", image, limit=PULL_LIMIT)


class Container:
    """One container whose port is the same inside and outside, and over stop and start."""

    def __init__(
        self,
        image: str,
        port: int,
        inner_port: int,
        is_up: Callable[[], bool],
        environment: Mapping[str, str],
        command: str | None = None,
    ) -> None:
        # guardian.py removes our containers; without this, testcontainers would pull an image that does.
        os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.container import DockerContainer

        self.origin = f"a container of {image}"
        self._is_up = is_up
        container: Any = DockerContainer(image)
        container.ports[f"{inner_port}/tcp"] = (HOST, port)  # with_bind_ports would open it to the network
        self._container = container
        for name, value in environment.items():
            self._container.with_env(name, value)
        if command:
            self._container.with_command(command)
        self._inner: Any = None
        self._one_at_a_time = threading.RLock()

    def start(self) -> None:
        with self._one_at_a_time:
            if self._inner is None:
                self._container.start()
                self._inner = self._container.get_wrapped_container()
                guardian.tell("container", self._inner.id)
            elif self._status() == "paused":
                self._inner.unpause()
            elif self._status() != "running":
                self._inner.start()
            wait_until_up(self.origin, self._is_up, lambda: self._status() in {"running", "restarting"})

    def _status(self) -> str:
        self._inner.reload()
        return str(self._inner.status)

    def stop(self) -> None:
        with self._one_at_a_time:
            if self._status() == "running":
                self._inner.stop(timeout=1)

    def kill(self) -> None:
        with self._one_at_a_time:
            if self._status() in {"running", "paused"}:
                self._inner.kill()
                self._inner.wait()

    def pause(self) -> None:
        self._inner.pause()

    def resume(self) -> None:
        if self._status() == "paused":
            self._inner.unpause()

    def close(self) -> None:
        if self._inner is not None:
            self._container.stop()
