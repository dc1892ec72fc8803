"""PostgreSQL."""

import functools
import itertools
import os
import shutil
import signal
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.services import packages
from tests.services.base import HOST, Service, Unavailable, answers, folder_for, free_port
from tests.services.docker import Container
from tests.services.process import NOBODY, LocalProcess, as_user

ARTIFACTS = {"18": "18.0.0"}  # what io.zonky.test.postgres is asked for; other versions come from the system
SETTINGS = f"""
listen_addresses = '{HOST}'
unix_socket_directories = ''
max_connections = 200
"""  # all else as the server has it: fsync above all


class Postgres(Service):
    name = "postgres"
    variable = "TEST_POSTGRES_URL"
    _numbers = itertools.count(1)

    async def fresh_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        await self.execute(f'create database "{name}"')
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    async def drop_database(self, url: str) -> None:
        """Remove what fresh_database made, whoever is still connected."""
        name = urlsplit(url).path.removeprefix("/")
        await self.execute(f'drop database if exists "{name}" with (force)')

    async def execute(self, sql: str) -> None:
        """One statement in the server's own database, on a connection of its own."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    # ------------------------------------------------------------------------------------------------ where it is

    @classmethod
    def image(cls) -> str:
        return f"postgres:{wanted() or '18'}"

    @classmethod
    def in_container(cls) -> Self:
        port = free_port()
        settings = "-c max_connections=200"
        environment = {"POSTGRES_HOST_AUTH_METHOD": "trust"}
        return cls(_url(port), Container(cls.image(), port, 5432, _is_up(port), environment, settings))

    @classmethod
    def on_this_machine(cls) -> Self:
        programs, port = cls.packages(), free_port()
        folder = folder_for("postgres")
        user = NOBODY if os.geteuid() == 0 else None  # the server refuses to run as root
        if user:
            shutil.chown(folder, user)
            programs = _within_reach(programs, user, folder)
        data = folder / "data"
        command = [str(programs / "initdb"), "--pgdata", str(data), "--username=postgres", "--auth=trust"]
        made = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **as_user(user),
        )
        if made.returncode != 0:
            raise Unavailable(f"initdb failed: {made.stderr.strip()[-600:]}")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS + f"port = {port}\n")
        command = [str(programs / "postgres"), "-D", str(data)]
        version = (data / "PG_VERSION").read_text().strip()
        origin = f"a local PostgreSQL {version}"
        return cls(_url(port), LocalProcess(origin, command, folder, _is_up(port), signal.SIGQUIT, user))

    @classmethod
    def packages(cls) -> Path:
        """The folder with `postgres` and `initdb`."""
        version, reasons = wanted(), []
        if version is None or version in ARTIFACTS:
            try:
                return _from_maven(ARTIFACTS[version or "18"])
            except Unavailable as error:
                reasons.append(str(error))
        if found := _installed(version):
            return found
        try:
            packages.debian(f"postgresql-{version}" if version else "postgresql", "pg_config")
        except Unavailable as error:
            reasons.append(str(error))
        if found := _installed(version):
            return found
        raise Unavailable(f"no PostgreSQL {version or ''}: " + "; ".join(reasons))


def wanted() -> str | None:
    return os.environ.get("TEST_POSTGRES_VERSION") or None


def _url(port: int) -> str:
    return f"postgresql://postgres@{HOST}:{port}/postgres"


def _is_up(port: int):
    parameters = b"user\0postgres\0database\0postgres\0\0"
    hello = struct.pack("!ii", 8 + len(parameters), 3 << 16) + parameters
    return lambda: answers(port, hello, b"R")  # an authentication reply; while it starts, an error comes


@functools.cache
def _from_maven(version: str) -> Path:
    name = f"embedded-postgres-binaries-{packages.maven_platform()}"

    def fill(folder: Path) -> None:
        (jar,) = packages.maven("io.zonky.test.postgres", name, version).glob("*.jar")
        with zipfile.ZipFile(jar) as outer:
            (inner,) = [entry for entry in outer.namelist() if entry.endswith(".txz")]
            with outer.open(inner) as packed, tarfile.open(fileobj=packed, mode="r:xz") as archive:
                if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2, which Debian 12 has
                    archive.extraction_filter = tarfile.data_filter
                archive.extractall(folder)

    return packages.once(f"postgres-{version}", fill) / "bin"


def _installed(version: str | None) -> Path | None:
    """Debian keeps them apart by version; elsewhere they are on the path."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob(f"{version or '*'}/bin"), key=lambda path: int(path.parent.name)
    )
    for folder in reversed(debian):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    on_path = shutil.which("postgres")
    if on_path and (version is None or f" {version}." in subprocess.getoutput(f"{on_path} --version")):
        return Path(on_path).resolve().parent
    return None


def _within_reach(programs: Path, user: str, folder: Path) -> Path:
    """The same programs where this user may run them: a checkout under /root is closed to others."""
    probe = subprocess.run(
        [str(programs / "postgres"), "--version"], capture_output=True, check=False, **as_user(user)
    )
    if probe.returncode == 0:
        return programs
    shutil.copytree(programs.parent, folder / "programs", symlinks=True)
    return folder / "programs" / programs.name
