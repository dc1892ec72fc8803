"""Makes JSON schemas that kubeconform reads offline: Kubernetes' own, and those of custom resources.

`schemas.py OUT CRDS VERSION…`. Kubernetes' come from the package kubernetes-validate, custom ones from their
definitions. In both, what is not named is refused, as a strict API server does.
"""

# Programs for people at a terminal, in no package; what they run is ours.
# ruff: noqa: INP001

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["closed", "custom", "kubernetes"]

NEEDED = ("httproutes", "podmonitors", "prometheusrules", "scaledobjects")
"""The custom resources that the chart has."""


class _Loader(yaml.CSafeLoader):
    """Takes a lone `=` for text, as everybody but YAML 1.1 does."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: node.value)


def kubernetes(out: Path, versions: list[str]) -> None:
    """Write the schemas of Kubernetes versions, as `1.37`, below `out`."""
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        raise SystemExit("kubernetes-validate is not installed; run deploy/tools/get.sh check")
    root = Path(found.origin).parent / "kubernetes-json-schema"
    for version in versions:
        target = out / f"v{version}.0-standalone-strict"
        target.mkdir(parents=True, exist_ok=True)
        for file in (root / f"v{version}.0-local-strict").glob("*.json"):
            schema = json.loads(file.read_text(encoding="utf-8"))
            # An http $id would make every $ref a download.
            schema.pop("$id", None)
            text = json.dumps(schema).replace('"/api/_definitions.json#', '"_definitions.json#')
            (target / file.name).write_text(text, encoding="utf-8")


def closed(schema: Any) -> Any:
    """Return an OpenAPI schema in which an object has no fields but those that are named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: closed(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if (
        isinstance(schema.get("properties"), dict)
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        result["additionalProperties"] = False
    return result


def custom(out: Path, definitions: Path) -> None:
    """Write the schemas of every custom resource that is defined below `definitions`."""
    target = out / "crd"
    target.mkdir(parents=True, exist_ok=True)
    for file in (file for name in NEEDED for file in definitions.glob(f"*/*_{name}.yaml")):
        for document in yaml.load_all(file.read_text(encoding="utf-8"), _Loader):
            if not document or document.get("kind") != "CustomResourceDefinition":
                continue
            kind = document["spec"]["names"]["kind"].lower()
            for version in document["spec"]["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # The API server knows these itself.
                for name, value in {"apiVersion": "string", "kind": "string", "metadata": "object"}.items():
                    schema["properties"][name] = {"type": value}
                name = f"{kind}-{document['spec']['group'].partition('.')[0]}-{version['name']}.json"
                (target / name).write_text(json.dumps(schema), encoding="utf-8")


if __name__ == "__main__":
    kubernetes(Path(sys.argv[1]), sys.argv[3:])
    custom(Path(sys.argv[1]), Path(sys.argv[2]))
    # Last: a run that was cut off leaves no mark.
    (Path(sys.argv[1]) / "made-for").write_text(" ".join(sys.argv[3:]), encoding="utf-8")
