"""`python -m tests.mutants [NAME …]`: a table of mutants, and `N passed, M failed` on a line of its own."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.table import Mutant, Stale, chosen, drawn, load
from tests.mutants.tree import copied
from tests.mutants.trial import Result, run_tests, try_mutant
from tests.mutants.witness import Ended
from tests.services import Kafka, Postgres, Service, Unavailable, close


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 when every mutant was caught, 1 when not, 2 when the table is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only these ('postgres: *' for those of a store)"
    )
    parser.add_argument("--list", action="store_true", help="say what each mutant breaks, and run nothing")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="so many at a time (2)")
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="draw one in N of them (1: all)")
    parser.add_argument(
        "--seed", default="", metavar="TEXT", help="what the draw depends on, and nothing else"
    )
    given = parser.parse_args(arguments)
    try:
        mutants = drawn(chosen(load(), given.names), max(1, given.one_in), given.seed)
    except Stale as stale:
        print(f"tests/mutants: {stale}", file=sys.stderr)
        return 2
    width = max(len(mutant.name) for mutant in mutants)
    if given.list:
        for mutant in mutants:
            print(f"{mutant.name:{width}}  {mutant.breaks}")
        return 0
    began = time.monotonic()
    failed: list[str] = []
    for result in _results(mutants, max(1, given.jobs)):
        word = "caught by" if result.caught else "FAILED   "
        line = f"{result.name:{width}}  {result.seconds:5.1f} s  {word}  {result.text}"
        failed += [] if result.caught else [line]
        print(line, flush=True)
    if given.one_in > 1:
        print(f"drawn: one in {given.one_in}, seed {given.seed!r}")
    print(f"{len(mutants)} mutants in {time.monotonic() - began:.0f} s")
    for line in failed:
        print(line)
    print(f"{len(mutants) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _results(mutants: Sequence[Mutant], jobs: int) -> Iterator[Result]:
    """Try the mutants, `jobs` at a time, each in a copy that nobody else uses meanwhile; in their order."""
    environment = _with_servers(mutants)
    try:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
            trees = [copied(Path(folder, str(number)).resolve()) for number in range(jobs)]
            tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
            parts = [tests[number::jobs] for number in range(jobs)]
            runs = pool.map(
                lambda tree, part: run_tests(tree, part, environment) if part else [], trees, parts
            )
            sound = {one.test: one for ended in runs for one in ended}
            free: queue.SimpleQueue[Path] = queue.SimpleQueue()
            for tree in trees:
                free.put(tree)

            def work(mutant: Mutant) -> Result:
                if text := _unsound(mutant, sound):
                    return Result(mutant.name, caught=False, text=text)
                tree = free.get()
                try:
                    return try_mutant(tree, mutant, environment)
                finally:
                    free.put(tree)

            yield from pool.map(work, mutants)
    finally:
        close()


def _unsound(mutant: Mutant, sound: dict[str, Ended]) -> str:
    """Say which of the mutant's tests do not pass without it: they prove nothing. Empty where all do."""
    ends = [sound.get(test) or sound.get("") or Ended(test, "missing") for test in mutant.tests]
    bad = [
        f"{test} {end.how} {end.why}"
        for test, end in zip(mutant.tests, ends, strict=True)
        if end.how != "passed"
    ]
    return f"without the mutant: {'; '.join(bad)}" if bad else ""


def _with_servers(mutants: Sequence[Mutant]) -> dict[str, str]:
    """Return the environment of all runs: they share the servers that a test needs, where they can be had."""
    environment = dict(os.environ)
    needed: list[type[Service]] = []
    if any("postgres" in test for mutant in mutants for test in mutant.tests):
        needed.append(Postgres)
    if any(mutant.name.startswith("kafka: ") for mutant in mutants):
        needed.append(Kafka)
    for kind in needed:
        try:
            environment[kind.variable] = kind.shared().url
        except Unavailable as error:
            print(f"no {kind.name}: {error}", file=sys.stderr)
    return environment


if __name__ == "__main__":
    sys.exit(main())
