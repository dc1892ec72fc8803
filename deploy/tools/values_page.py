"""Makes the chart's README.md from the comments of its values.yaml: `values_page.py CHART_DIR [--check]`."""

# Programs for people at a terminal, in no package; what they run is ours.
# ruff: noqa: INP001, T201

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["comments", "page", "rows"]

HEAD = """# Chart `consumer`

Generated from `values.yaml` by `deploy/tools/values_page.py`; a test compares.

```console
$ kubectl create secret generic shop-store --from-literal=url=postgresql://…
$ helm install shop deploy/helm/consumer --set image.repository=registry.example/shop --set store.existingSecret=shop-store
$ helm test shop
```

Several releases may share a store and an app; the workers find each other there. `ci/` holds one values file a use:
the least that is needed, everything, KEDA, HPA, handlers from a ConfigMap.

| value | default | what it is |
|---|---|---|
"""


def comments(text: str) -> dict[str, str]:
    """Return the `# --` comment of every value, by its dotted name.

    Args:
        text: of values.yaml.
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    waiting = ""
    for line in text.splitlines():
        if note := re.match(r"\s*# -- (.*)", line):
            waiting = note[1]
        elif key := re.match(r"( *)([A-Za-z]\w*):", line):
            indent = len(key[1])
            path = [each for each in path if each[0] < indent] + [(indent, key[2])]
            if waiting:
                found[".".join(name for _, name in path)] = waiting
                waiting = ""
    return found


def rows(values: dict[str, Any], notes: dict[str, str], prefix: str = "") -> list[tuple[str, Any, str]]:
    """Return (name, default, meaning) of every value.

    Raises:
        ValueError: a value has no comment; it is named.
    """
    result: list[tuple[str, Any, str]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if path in notes:
            result.append((path, value, notes[path]))
        elif isinstance(value, dict) and value:
            result += rows(value, notes, f"{path}.")
        else:
            raise ValueError(f"{path} has no '# --' comment in values.yaml")
    return result


def page(values: str) -> str:
    """Return the README's text.

    Args:
        values: text of values.yaml.
    """
    lines = (
        f"| `{name}` | `{json.dumps(default, ensure_ascii=False)}` | {note.replace('|', chr(92) + '|')} |\n"
        for name, default, note in rows(yaml.safe_load(values), comments(values))
    )
    return HEAD + "".join(lines)


def _main(chart: Path, *, check: bool) -> int:
    readme = chart / "README.md"
    text = page((chart / "values.yaml").read_text(encoding="utf-8"))
    if check and readme.read_text(encoding="utf-8") != text:
        print(
            f"{readme} is not what values.yaml says; run deploy/tools/values_page.py {chart}", file=sys.stderr
        )
        return 1
    readme.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), check="--check" in sys.argv))
