"""`docs/settings.md`, generated from the fields of `Settings`: `python -m consumer.operate.settings_page`."""

from __future__ import annotations

import dataclasses
import sys

from consumer.settings import PREFIX, Settings

__all__ = ["settings_page"]

_HEAD = """# Settings

Generated from `consumer/settings.py`; `python -m consumer.operate.settings_page > docs/settings.md` renews it, and a test
compares.

What changes the load is a setting; what changes the promise (`mode`, `key`, `name`, `same`) lives in code and is refused
here. The first of these that names a setting wins:

1. a flag of the command line,
2. the environment variable, or `<VARIABLE>_FILE`, which names a file that holds the value (for secrets),
3. the table `[consumer]` of the file that `--config` names, else of `consumer.toml` in the working directory,
4. the default.

An unknown name in the file, a value of the wrong kind and a number out of range end the command with exit code 78.

| setting | variable | default | what it is |
|---|---|---|---|
"""


def settings_page() -> str:
    """Return the page."""
    return _HEAD + "".join(f"{_line(field)}\n" for field in dataclasses.fields(Settings))


def _line(field: dataclasses.Field[object]) -> str:
    default = field.metadata["default"]
    table = isinstance(default, dict)
    variable = "only in the file" if table else f"`{PREFIX}{field.name.upper()}`"
    shown = "none" if table or default is None else f"`{default}`"
    text = str(field.metadata["text"]).replace("|", "\\|")
    return f"| `{field.name}` | {variable} | {shown} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
