"""Writes the generated parts of README.md: the promise table and the state diagram. A test compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from consumer.rules.modes import MODES, Outcome
from consumer.rules.states import diagram

README = Path(__file__).parent.parent / "README.md"


def promise_table() -> str:
    """Return the mode table as Markdown."""
    columns = [
        Outcome.RETURNED,
        Outcome.RETRY,
        Outcome.REJECT,
        Outcome.RAISED,
        Outcome.TIMED_OUT,
        Outcome.CRASHED,
    ]
    rows = [
        "| mode | promise | " + " | ".join(outcome.value for outcome in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for rules in MODES.values():
        cells = " | ".join(rules.outcomes[outcome].text for outcome in columns)
        rows.append(f"| `{rules.name}` | {rules.promise} | {cells} |")
    return "\n".join(rows)


def generated(text: str) -> str:
    """Return the README's text with its generated parts made anew."""
    parts = {"promise table": promise_table(), "state diagram": f"```mermaid\n{diagram()}\n```"}
    for name, body in parts.items():
        pattern = rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)"
        text = re.sub(
            pattern, lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    README.write_text(generated(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("README.md: generated parts written\n")
