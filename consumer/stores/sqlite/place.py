"""Where the database lies, and whether SQLite can keep its promises there."""

from __future__ import annotations

import os
import pathlib
import sqlite3

from consumer.errors import SettingsError

__all__ = ["Place"]

_OLDEST = (3, 35, 0)
"""The first version with RETURNING."""

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs"}
    | {"fuse.sshfs", "fuse.s3fs"}
)
"""Mounts where locks and shared memory do not hold between hosts: two hosts would both be the writer."""


class Place:
    """The files of one store: the database, its writer lock and its workers' signs of life.

    Args:
        path: the database file; a relative one is taken from the directory that the process is in now.

    Attributes:
        shown: the path as it was given, for texts.
        database, writer, workers: absolute paths.
    """

    __slots__ = ("database", "shown", "workers", "writer")

    def __init__(self, path: str) -> None:
        if not path or path == ":memory:" or "\0" in path:
            raise SettingsError(f"store sqlite:///{path!r}: a file is needed; `memory:` keeps nothing")
        self.shown = path
        self.database = os.path.abspath(path)  # noqa: PTH100 - it stays a string
        self.writer = f"{self.database}.writer"
        self.workers = f"{self.database}.workers"

    def uri(self, *, create: bool) -> str:
        """Return the database as SQLite opens it; without `create` a missing file is an error."""
        return f"{pathlib.Path(self.database).as_uri()}?mode={'rwc' if create else 'rw'}"

    def exists(self) -> bool:
        """Whether there is something at the database's path."""
        return os.path.lexists(self.database)

    def inspect(self) -> None:
        """Refuse what cannot work, before anything is opened.

        Raises:
            SettingsError: the text names the path and what is wrong with it.
        """
        directory = pathlib.Path(self.database).parent
        if sqlite3.sqlite_version_info < _OLDEST:
            raise SettingsError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or later is needed")
        if not directory.is_dir():
            raise SettingsError(
                f"{self.shown}: the directory {directory} does not exist; make it, or name a file in another one"
            )
        if self.exists() and not pathlib.Path(self.database).is_file():
            raise SettingsError(f"{self.shown}: this is not a file; name one, as in sqlite:///shop.db")
        paths = [str(directory), self.database] if self.exists() else [str(directory)]
        for path in paths:
            if not os.access(path, os.R_OK | os.W_OK):
                raise SettingsError(
                    f"{self.shown}: {path} cannot be written by this user; the store must write there"
                )
        kind = _mounted_as(str(directory.resolve()))
        if kind in _NETWORK:
            raise SettingsError(
                f"{self.shown}: {directory} is a network file system ({kind}); SQLite is for one host and a"
                " local disk, use postgresql:// for several hosts"
            )


def _mounted_as(directory: str) -> str:
    """Return the kind of file system that holds `directory`; empty where the system does not tell."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as table:  # noqa: PTH123
            mounts = [line.split() for line in table]
    except OSError:
        return ""
    kind, longest = "", -1
    for _, point, name, *_ in mounts:
        there = point.replace("\\040", " ")
        inside = there in {"/", directory} or directory.startswith(f"{there}/")
        if inside and len(there) >= longest:
            kind, longest = name, len(there)
    return kind
