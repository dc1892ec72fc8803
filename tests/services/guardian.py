"""Ends servers and removes their folders when whoever started them is gone, whatever ended it.

Runs as a process of its own and reads its standard input; the end of that input is the other side's end. PR_SET_PDEATHSIG
would not do: it is Linux only, and it fires when the starting *thread* ends, which an event loop's thread pool does early.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 3.0


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    processes: dict[int, int] = {}
    containers: list[str] = []
    folders: list[str] = []
    for line in sys.stdin:
        verb, argument, *rest = line.rstrip("\n").split("\t")
        if verb == "process":
            processes[int(argument)] = int(rest[0])
        elif verb == "gone":
            processes.pop(int(argument), None)
        elif verb == "container":
            containers.append(argument)
        elif verb == "folder":
            folders.append(argument)
    end(processes)
    for name in containers:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def end(processes: dict[int, int]) -> None:
    """Ask each with its own signal, then insist."""
    for pid, first_signal in processes.items():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, first_signal)
    deadline = time.monotonic() + PATIENCE
    while any(alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in processes:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie, which nobody reaps in a small container, does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # macOS has no /proc: the signal got through, so it runs
    except OSError:
        return False


if __name__ == "__main__":
    main()
