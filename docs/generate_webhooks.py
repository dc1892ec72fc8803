"""Writes the generated table of webhooks.md. A test compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from consumer.webhooks.describe import table

PAGE = Path(__file__).parent / "webhooks.md"


def generated(text: str) -> str:
    """Return the page's text with its table made anew."""
    return re.sub(
        r"(<!-- providers: [^>]*-->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table()}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("webhooks.md: generated table written\n")
