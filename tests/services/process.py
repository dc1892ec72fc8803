"""A server as a process on this machine."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.services.base import Unavailable, guardian, wait_until_up
from tests.services.guardian import alive

NOBODY = "nobody"


class LocalProcess:
    """Start, stop and kill one command; its data are in `folder`, its output in `folder`/log."""

    def __init__(
        self,
        origin: str,
        command: Sequence[str],
        folder: Path,
        is_up: Callable[[], bool],
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.origin = origin
        self._command = list(command)
        self._folder = folder
        self._is_up = is_up
        self._stop_signal = stop_signal
        self._user = user
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._one_at_a_time = threading.RLock()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        with self._one_at_a_time:
            if self.pid is not None:
                self.resume()
                return
            self._launch()
            try:
                wait_until_up(self.origin, self._is_up, lambda: self.pid is not None)
            except Unavailable as error:
                self.kill()
                raise Unavailable(f"{error}; its last words:\n{self.last_words()}") from None

    def _launch(self) -> None:
        self._paused = False
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the servers
                **as_user(self._user),
            )
        guardian.tell("process", self._process.pid, int(self._stop_signal))

    def stop(self) -> None:
        with self._one_at_a_time:
            if self.pid is None or self._process is None:
                return
            self.resume()
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
            guardian.tell("gone", self._process.pid)

    def kill(self) -> None:
        with self._one_at_a_time:
            if self.pid is None or self._process is None:
                return
            self.pause()  # so that it starts no more children while they are counted
            doomed = [*descendants(self._process.pid), self._process.pid]
            for pid in doomed:
                _signal(pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            _gone(doomed)
            guardian.tell("gone", self._process.pid)

    def pause(self) -> None:
        self._paused = True
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        if self._paused:  # every test asks, and to list processes takes longer than most of them
            self._signal_all(signal.SIGCONT)
            self._paused = False

    close = stop

    def _signal_all(self, which: signal.Signals) -> None:
        if self.pid is not None:
            for pid in [self.pid, *descendants(self.pid)]:
                _signal(pid, which)

    def last_words(self, lines: int = 20) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-lines:])
        return "(none)"


def as_user(user: str | None) -> dict:
    """Arguments for subprocess that run the command as this user; none when that is who we are."""
    if user is None:
        return {}
    import pwd

    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def descendants(pid: int) -> list[int]:
    """Children and their children; `ps` is the same everywhere."""
    table = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[int]] = {}
    for line in table.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _gone(pids: Sequence[int], patience: float = 10) -> None:
    """Wait until killed processes have ended, children of others too: until then PostgreSQL's memory is in use, and it
    does not start again.
    """
    deadline = time.monotonic() + patience
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)


def _signal(pid: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)
