"""The page's table is the one that the code runs on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_table_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_webhooks", ROOT / "docs" / "generate_webhooks.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    assert "**Stripe**" in text
    assert generate.generated(text) == text, "run: python docs/generate_webhooks.py"
