"""Runs tests in a copy of the tree, in a process of their own, and judges what they say of a mutant."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.mutants.table import Mutant, Stale
from tests.mutants.tree import planted
from tests.mutants.witness import VARIABLE, Ended, Order

__all__ = ["Result", "run_tests", "try_mutant"]

LIMIT = 120.0
"""Seconds for one run: a mutant that hangs is not caught, it is a nuisance, and wants another test."""

TEST_LIMIT = 60
"""Seconds for one test, by pytest-timeout: as long as without a mutant. Whoever waits in a test gives up long before."""


class Result(msgspec.Struct, frozen=True):
    """What became of one mutant.

    Attributes:
        name: its.
        caught: a test has noticed.
        text: which one, or why not.
        seconds: that its run took.
    """

    name: str
    caught: bool
    text: str
    seconds: float = 0.0


def run_tests(
    tree: Path, tests: Sequence[str], environment: Mapping[str, str], mutant: Mutant | None = None
) -> list[Ended]:
    """Run `tests` in `tree`, where `mutant` (if any) is planted, until one of them notices it.

    Returns:
        How they ended, in the order in which they ended.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        report, order, said = Path(folder, "report"), Path(folder, "order"), Path(folder, "said")
        report.touch()
        modules = [edit.module for edit in mutant.edits if edit.file.endswith(".py")] if mutant else []
        order.write_bytes(
            msgspec.json.encode(Order(str(tree), list(tests), modules, str(report), mutant is not None))
        )
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.mutants.witness",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-o", f"timeout={TEST_LIMIT}", "--basetemp", str(Path(folder, "tmp")), *files]
        ours = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", VARIABLE: str(order)}
        with said.open("wb") as output:
            hung = _in_time(command, tree, {**environment, **ours}, output.fileno())
        ended = [msgspec.json.decode(line, type=Ended) for line in report.read_bytes().splitlines()]
        if hung:
            ended.append(Ended("", "broke", f"no end within {LIMIT:.0f} s"))
        elif not ended:
            tail = said.read_text(errors="replace").strip().splitlines()[-3:]
            ended.append(Ended("", "broke", "pytest: " + " ".join(tail)))
        return ended


def _in_time(command: Sequence[str], tree: Path, environment: Mapping[str, str], output: int) -> bool:
    """Run the command; return whether it had to be killed (with what it has started)."""
    child = subprocess.Popen(
        command, cwd=tree, env=dict(environment), stdout=output, stderr=output, start_new_session=True
    )
    try:
        child.wait(LIMIT)
    except BaseException as raised:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if isinstance(raised, subprocess.TimeoutExpired):
            return True
        raise
    return False


def try_mutant(tree: Path, mutant: Mutant, environment: Mapping[str, str]) -> Result:
    """Plant `mutant` in `tree`, run its tests, take it out again; its tests are known to pass without it."""
    began = time.monotonic()
    try:
        with planted(mutant.edits, tree):
            ended = run_tests(tree, mutant.tests, environment, mutant)
    except Stale as stale:
        return Result(mutant.name, caught=False, text=f"stale: {stale}")
    seconds = time.monotonic() - began
    noticed = [one for one in ended if one.how == "noticed"]
    if noticed:
        return Result(mutant.name, caught=True, text=noticed[0].test.removeprefix("tests/"), seconds=seconds)
    others = [one for one in ended if one.how != "passed"]
    if others:
        text = "; ".join(f"{one.test.removeprefix('tests/')} {one.how}: {one.why}" for one in others)
        return Result(mutant.name, caught=False, text=f"not by an assertion: {text}", seconds=seconds)
    return Result(mutant.name, caught=False, text=f"SURVIVED; it breaks: {mutant.breaks}", seconds=seconds)
