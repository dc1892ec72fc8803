"""A copy of the tree, in which a mutant is planted and from which it is taken out again."""

from __future__ import annotations

import compileall
import py_compile
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.table import Edit, Stale

__all__ = ["ROOT", "copied", "planted"]

ROOT = Path(__file__).parents[2]

_PARTS = ("consumer", "handlers", "tests", "pyproject.toml")
"""What tests read. Anything else that a test needs is a reason to choose another test."""


def copied(to: Path) -> Path:
    """Copy what the tests need, compiled.

    The compiled files are checked against the source's text, not its time: two mutants of one second would else be one.
    """
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / part)
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(to / "consumer", quiet=2, invalidation_mode=checked)
    return to


@contextmanager
def planted(edits: Sequence[Edit], tree: Path) -> Iterator[None]:
    """Change the copy while the context lasts.

    Raises:
        Stale: a text is not there exactly once, or the result is no Python; nothing is changed then.
    """
    before: dict[Path, str] = {}
    after: dict[Path, str] = {}
    for edit in edits:
        path = tree / edit.file
        if not path.is_file():
            raise Stale(f"{edit.file}: there is no such file")
        before.setdefault(path, path.read_text(encoding="utf-8"))
        after[path] = edit.applied(after.get(path, before[path]))
    for path, text in after.items():
        if path.suffix != ".py":  # a Redis script: its server compiles it
            continue
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            raise Stale(f"{path.relative_to(tree)}: the mutant is no Python: {error}") from error
    try:
        for path, text in after.items():
            path.write_text(text, encoding="utf-8")
        yield
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
