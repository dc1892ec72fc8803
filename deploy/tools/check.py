"""Everything that can be checked of `deploy/` without a cluster; `make deploy-check` runs it.

Every check is a function that returns what is wrong, as text; all run, and the exit code is 1 if any found something.
"""

# Programs for people at a terminal, in no package; what they run is ours.
# ruff: noqa: INP001, S603, T201

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

__all__ = ["CHECKS"]

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "consumer"
TOOLS = ROOT / ".cache" / "tools"
SCHEMAS = TOOLS / "schemas"

VERSIONS = ("1.27", "1.29", "1.31", "1.34", "1.37")
"""Of Kubernetes: the least that Chart.yaml permits, the newest, and some between."""

BROKEN: tuple[tuple[str, str], ...] = (
    ("maxUnavailable: 1\n  # Else", "maxUnavailible: 1\n  # Else"),
    ("podMetricsEndpoints:", "podMetricEndpoints:"),
    ("minReplicaCount: 2", "minReplicaCount: two"),
    ("parentRefs:", "parentRef:"),
    ('expr: "absent', 'exprs: "absent'),
    ("replicas: 3", 'replicas: "3"'),
)
"""What the schemas must refuse: a check that passes everything is none."""

IGNORED = {
    "container-image-pull-policy": "IfNotPresent is right for what a digest or a release's tag names",
    "deployment-has-host-podantiaffinity": "topology spread over zones and nodes does it, softly",
    "pod-networkpolicy": "off by default: who may connect is the cluster's to say; required where it is on",
}
"""kube-score's checks that are not followed, and why."""


def _run(*command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, check=False, cwd=ROOT
    )


def _told(*command: str | Path, text: str | None = None) -> Iterator[str]:
    done = _run(*command, text=text)
    if done.returncode:
        yield (done.stdout + done.stderr).strip() or f"{command[0]} exited {done.returncode}"


def _helm(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return _run(TOOLS / "bin" / "helm", *arguments, text=text)


def _cases() -> list[Path]:
    return sorted((CHART / "ci").glob("*-values.yaml"))


def _rendered(values: Path) -> str:
    done = _helm("template", "shop", CHART, "--namespace", "prod", "--values", values)
    if done.returncode:
        raise SystemExit(f"helm template with {values.name}: {done.stderr}")
    return done.stdout


def lint() -> Iterator[str]:
    """Helm's own look at the chart with every values file."""
    for values in _cases():
        yield from _told(TOOLS / "bin" / "helm", "lint", "--strict", CHART, "--values", values)


def schemas() -> Iterator[str]:
    """Every object of every values file against every Kubernetes version and the custom resources' definitions."""
    mark = SCHEMAS / "made-for"
    if not mark.exists() or mark.read_text(encoding="utf-8") != " ".join(VERSIONS):
        yield from _told(sys.executable, DEPLOY / "tools" / "schemas.py", SCHEMAS, TOOLS / "crds", *VERSIONS)
    documents = "\n---\n".join(_rendered(values) for values in _cases())
    for version in VERSIONS:
        done = _kubeconform(documents, version)
        summary = json.loads(done.stdout or "{}").get("summary", {})
        # What has no schema is "skipped" or an error, and would otherwise look right.
        if done.returncode or summary.get("skipped") or not summary.get("valid"):
            yield f"Kubernetes {version}: {done.stdout}{done.stderr}"
    for right, wrong in BROKEN:
        if right not in documents:
            yield f"the check of the check is stale: {right!r} is in no rendered file"
        elif not _kubeconform(documents.replace(right, wrong), VERSIONS[-1]).returncode:
            yield f"{wrong!r} was not refused"


def _kubeconform(documents: str, version: str) -> subprocess.CompletedProcess[str]:
    kind = "{{.ResourceKind}}{{.KindSuffix}}.json"
    return _run(
        TOOLS / "bin" / "kubeconform", "-strict", "-summary", "-output", "json",
        "-kubernetes-version", f"{version}.0",
        "-schema-location", f"{SCHEMAS}/{{{{.NormalizedKubernetesVersion}}}}-standalone{{{{.StrictSuffix}}}}/{kind}",
        "-schema-location", f"{SCHEMAS}/crd/{kind}",
        "-", text=documents,
    )  # fmt: skip


def refusals() -> Iterator[str]:
    """Values that are wrong are refused, with words that name the mend."""
    for case in yaml.safe_load((CHART / "tests" / "refusals.yaml").read_text(encoding="utf-8")):
        done = _helm(
            "template", "shop", CHART, "--values", CHART / "ci" / "minimal-values.yaml", "--values", "-",
            text=yaml.safe_dump(case["values"]),
        )  # fmt: skip
        if not done.returncode:
            yield f"{case['values']} was accepted"
        elif case["says"] not in done.stderr:
            yield f"{case['values']}: {case['says']!r} is not in: {done.stderr}"


def unittests() -> Iterator[str]:
    """What the templates make of values."""
    yield from _told(TOOLS / "bin" / "helm-unittest", "--strict", CHART)


def score() -> Iterator[str]:
    """kube-score, but for what IGNORED gives a reason for."""
    for values in _cases():
        text = _rendered(values)
        ignored = [
            name for name in IGNORED if name != "pod-networkpolicy" or "kind: NetworkPolicy" not in text
        ]
        # No CPU limit, on purpose: a throttled worker cannot give its sign of life, and its claims lapse.
        flags = [
            "--ignore-container-cpu-limit",
            *(part for name in ignored for part in ("--ignore-test", name)),
        ]
        yield from _told(
            TOOLS / "bin" / "kube-score", "score", "--output-format", "ci", *flags, "-", text=text
        )


def readme() -> Iterator[str]:
    """The chart's README and the dashboard are what their sources say."""
    yield from _told(sys.executable, DEPLOY / "tools" / "values_page.py", CHART, "--check")
    yield from _told(sys.executable, DEPLOY / "dashboards" / "generate.py", "--check")


def dockerfile() -> Iterator[str]:
    """Hadolint."""
    yield from _told(TOOLS / "venv" / "bin" / "hadolint", DEPLOY / "Dockerfile")


def yamls() -> Iterator[str]:
    """Yamllint, for what is YAML; templates are not."""
    files = [path for path in DEPLOY.rglob("*.yaml") if "templates" not in path.parts]
    yield from _told(TOOLS / "venv" / "bin" / "yamllint", "--strict", "-c", DEPLOY / ".yamllint.yaml", *files)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        for values in _cases():
            file.seek(0)
            file.truncate()
            file.write(_rendered(values))
            file.flush()
            # Duplicate keys: Kubernetes would silently take one of them.
            rules = "{rules: {key-duplicates: enable}}"
            yield from _told(TOOLS / "venv" / "bin" / "yamllint", "-d", rules, file.name)


def compose() -> Iterator[str]:
    """The Compose file against its schema; what it mounts is there; Prometheus' settings are settings."""
    file = DEPLOY / "compose.yaml"
    schema = TOOLS / "crds" / "compose" / "compose-spec.json"
    yield from _told(
        sys.executable, "-c",
        "import json, sys, jsonschema, yaml; from pathlib import Path\n"
        "jsonschema.validate(yaml.safe_load(Path(sys.argv[1]).read_text()), json.loads(Path(sys.argv[2]).read_text()))",
        file, schema,
    )  # fmt: skip
    for name, service in yaml.safe_load(file.read_text(encoding="utf-8"))["services"].items():
        if (
            name != "topics"
            and "healthcheck" not in service
            and "image" in service
            and "build" not in service
        ):
            yield f"{file}: {name} has no health check"
        for mount in service.get("volumes", ()):
            place = mount.partition(":")[0]
            if place.startswith(".") and not (DEPLOY / place).exists():
                yield f"{file}: {name} mounts {place}, which is not there"
    promtool = TOOLS / "prometheus" / "usr" / "bin" / "promtool"
    yield from _told(promtool, "check", "config", "--syntax-only", DEPLOY / "compose" / "prometheus.yaml")


def alerts() -> Iterator[str]:
    """The rules are rules, and every alert's test passes."""
    promtool = TOOLS / "prometheus" / "usr" / "bin" / "promtool"
    yield from _told(promtool, "check", "rules", DEPLOY / "alerts" / "consumer.yaml")
    yield from _told(promtool, "test", "rules", DEPLOY / "alerts" / "consumer.test.yaml")


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (
    lint, schemas, refusals, unittests, score, readme, dockerfile, compose, yamls, alerts,
)  # fmt: skip


def _main() -> int:
    failed = False
    for check in CHECKS:
        began = time.monotonic()
        wrong = list(check())
        print(
            f"{'FAILED' if wrong else 'ok':6} {check.__name__:11} {time.monotonic() - began:5.1f} s  {check.__doc__}"
        )
        for text in wrong:
            print(text)
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(_main())
