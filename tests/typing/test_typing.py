"""The public API under two type checkers: the programs pass, and every misuse is refused (see `misuses.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"],
    "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
}
QUIET = {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
"""Else it asks the registry whether there is a newer release, and says so on the day that there is one."""
CLEAN = {"mypy": "", "pyright": "0 errors, 0 warnings, 0 informations"}


def checked(checker: str, *files: Path) -> tuple[int, str]:
    done = subprocess.run(
        [*CHECKERS[checker], *map(str, files)],
        cwd=ROOT,
        env=os.environ | QUIET,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("checker", CHECKERS)
def test_programs_pass_and_misuses_are_refused(checker):
    assert checked(checker, HERE / "api.py", HERE / "misuses.py") == (0, CLEAN[checker])


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_misuse_that_passes_would_be_noticed(checker, tmp_path):
    harmless = tmp_path / "harmless.py"
    harmless.write_text(
        "# pyright: strict, reportUnnecessaryTypeIgnoreComment=true\n"
        "from consumer import Key\n\nKey.record()  # type: ignore[call-arg]\n"
    )
    code, said = checked(checker, harmless)
    assert code == 1
    assert 'nnecessary "# type: ignore"' in said or 'nused "type: ignore"' in said
