"""The supervisor, with children that are a few lines of Python each."""

import asyncio
import os
import signal
import sys
import time

from consumer.cli.children import arguments_of
from consumer.cli.run import run
from consumer.worker import processes
from consumer.worker.passing import pass_through
from consumer.worker.processes import DEATHS, Supervisor

GOOD = """
import signal, sys
def end(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
print("up", flush=True)
while True:
    signal.pause()
"""
DEAF = """
import signal, sys
seen = []
def end(*_):
    seen.append(1)
    print("deaf", flush=True)
    if len(seen) > 1:
        sys.exit(1)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
print("up", flush=True)
while True:
    signal.pause()
"""
FAST = (0.01, 0.02)


class Stage:
    """A supervisor under way, and what it said."""

    def __init__(self, *scripts: str, grace: float = 5.0) -> None:
        self.lines: list[str] = []
        self.readies = 0
        self._changed = asyncio.Event()
        self.supervisor = Supervisor(
            lambda number: [sys.executable, "-c", scripts[min(number, len(scripts)) - 1]],
            max(len(scripts), 2),
            grace=grace,
            say=self._said,
            ready=self._ready,
            pauses=FAST,
        )
        self.task = asyncio.create_task(self.supervisor.run())

    def _said(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    def _ready(self) -> None:
        self.readies += 1
        self._changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(15):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def code(self) -> int:
        async with asyncio.timeout(15):
            return await self.task


async def test_all_ready_is_said_once_and_a_clean_end_is_0():
    stage = Stage(GOOD, GOOD, GOOD)
    await stage.until(lambda: stage.readies and len(stage.lines) == 3)
    assert sorted(stage.lines) == ["[1] up", "[2] up", "[3] up"]
    stage.supervisor.stop()
    assert await stage.code() == 0
    assert sorted(stage.lines[3:]) == ["[1] bye", "[2] bye", "[3] bye"]
    assert stage.readies == 1


async def test_what_dies_is_started_again_and_ready_is_not_said_again():
    stage = Stage(GOOD, GOOD)
    # not only ready: what is killed between its two lines would never say the second
    await stage.until(lambda: stage.readies and "[2] up" in stage.lines)
    before = stage.supervisor.pids
    os.kill(before[1], signal.SIGKILL)
    await stage.until(lambda: stage.lines.count("[2] up") == 2)
    after = stage.supervisor.pids
    assert after[0] == before[0]
    assert after[1] != before[1]
    stage.supervisor.stop()
    assert await stage.code() == 0
    assert stage.readies == 1


async def test_a_process_that_cannot_live_ends_all_with_1_and_says_why(caplog):
    stage = Stage(GOOD, "print('ready\\nup', flush=True); raise SystemExit(9)")
    assert await stage.code() == 1
    assert stage.lines.count("[2] up") == DEATHS
    assert "[1] bye" in stage.lines, "the others end in order"
    assert "ended by itself with exit code 9; that was the 5th time within 60 s, giving up" in caplog.text


async def test_deaths_that_are_long_ago_do_not_count(monkeypatch):
    child = processes._Child(1)
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert [child.died() for _ in range(4)] == [1, 2, 3, 4]
    now += processes.WINDOW + 1
    assert child.died() == 1


async def test_a_wrong_configuration_is_not_tried_again():
    stage = Stage("import sys; print('no', flush=True); sys.exit(78)", GOOD)
    assert await stage.code() == 78
    assert stage.lines == ["[1] no"], "and the others were not even started"


async def test_a_wrong_configuration_of_a_later_one_ends_all():
    stage = Stage(GOOD, "raise SystemExit(78)")
    assert await stage.code() == 78
    assert stage.lines[-1] == "[1] bye"


async def test_an_unclean_end_of_one_is_1():
    stage = Stage(GOOD, GOOD.replace("sys.exit(0)", "sys.exit(1)"))
    await stage.until(lambda: stage.readies)
    stage.supervisor.stop()
    assert await stage.code() == 1


async def test_a_second_signal_is_passed_on():
    stage = Stage(DEAF, GOOD, grace=600)
    await stage.until(lambda: stage.readies)
    stage.supervisor.stop()
    await stage.until(lambda: {"[1] deaf", "[2] bye"} <= set(stage.lines))
    stage.supervisor.stop()
    assert await stage.code() == 1


async def test_who_does_not_end_is_killed_after_the_grace(monkeypatch, caplog):
    monkeypatch.setattr(processes, "_MARGIN", 0.2)
    stage = Stage(DEAF, GOOD, grace=0.1)
    await stage.until(lambda: stage.readies)
    stage.supervisor.stop()
    assert await stage.code() == 1
    assert "did not end within" in caplog.text


async def test_an_end_before_anything_was_in_hand_is_clean():
    stage = Stage("import time; print('starting', flush=True); time.sleep(600)", GOOD)
    await stage.until(lambda: stage.lines)
    stage.supervisor.stop()
    assert await stage.code() == 0
    assert stage.readies == 0


async def test_lines_pass_however_long_they_are():
    stream = asyncio.StreamReader()
    stream.feed_data(b"a\n" + b"x" * 200_000 + b"\nb\xff")
    stream.feed_eof()
    lines: list[str] = []
    await pass_through(stream, lines.append)
    assert lines == ["a", "x" * 200_000, "b�"]


def test_the_childs_command_line_is_the_parents_with_changes():
    given = ["--store", "sqlite:///x.db", "--no-relay", "--slots", "7", "--instance", "n", "--", "-odd:app"]
    context = run.make_context("run", ["--processes", "3", *given])
    child = arguments_of(context, processes=1, supervised=True, instance="n-2")
    again = run.make_context("run", child)
    assert again.params == context.params | {"processes": 1, "supervised": True, "instance": "n-2"}
