"""The Python of a page of the docs, as one program."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["BLOCK", "DOCS", "program_of"]

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def program_of(page: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Run all blocks of a page as one module; its lines have the numbers that they have on the page."""
    module = ModuleType(f"{page.stem}_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        blank = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(blank + block[1], str(page), "exec", dont_inherit=True), module.__dict__)
    return module
