"""What can be said of deploy/ without any tool; `make deploy-check` says the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from consumer.observe.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOKS = ROOT / "docs" / "runbooks"
CHART = DEPLOY / "helm" / "consumer"

METRICS = {family.name: set(family.labels) for family in FAMILIES}
"""The names that the metrics have, with their labels."""

SCRAPED = {"namespace", "pod", "le"}
"""Labels that Prometheus and histograms add."""


def rules():
    groups = yaml.safe_load((DEPLOY / "alerts" / "consumer.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries():
    dashboard = yaml.safe_load((DEPLOY / "dashboards" / "consumer.json").read_text(encoding="utf-8"))
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))
    yield from (rule["expr"] for rule in rules())


@pytest.mark.parametrize("query", sorted(set(queries())))
def test_a_query_asks_for_metrics_and_labels_that_there_are(query):
    names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bconsumer_\w+", query)}
    assert names <= METRICS.keys()
    allowed = SCRAPED.union(*(METRICS[name] for name in names))
    selected = set(re.findall(r"[{,](\w+)(?:=|!)", query))
    grouped = {
        label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", query) for label in labels.split(",")
    }
    assert selected | grouped <= allowed


def test_the_dashboard_shows_every_metric():
    text = (DEPLOY / "dashboards" / "consumer.json").read_text(encoding="utf-8")
    assert [name for name in METRICS if name not in text] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_runbook_of_its_name_and_expression(rule):
    path = rule["annotations"]["runbook_url"]
    assert path == "docs/runbooks/" + re.sub(r"(?<!^)([A-Z])", r"-\1", rule["alert"]).lower() + ".md"
    page = (ROOT / path).read_text(encoding="utf-8")
    assert page.startswith(f"# {rule['alert']}\n")
    assert f"`{rule['expr']}`" in page
    assert all(f"\n## {part}\n" in page for part in ("What it means", "Look", "Do"))


def test_no_runbook_is_left_over():
    named = {Path(rule["annotations"]["runbook_url"]).name for rule in rules()}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == named


def test_every_alert_is_tested_to_fire_and_not_to():
    cases = yaml.safe_load((DEPLOY / "alerts" / "consumer.test.yaml").read_text(encoding="utf-8"))["tests"]
    asked = [each for case in cases for each in case["alert_rule_test"]]
    fires = {each["alertname"] for each in asked if each["exp_alerts"]}
    silent = {each["alertname"] for each in asked if not each["exp_alerts"]}
    assert fires == silent == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("script", ["tools/values_page.py", "dashboards/generate.py"])
def test_what_is_generated_is_current(script):
    arguments = [str(CHART)] if script.startswith("tools") else []
    done = subprocess.run(
        [sys.executable, str(DEPLOY / script), *arguments, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_image_and_compose_stop_later_than_a_worker_needs():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {compose[name]["stop_grace_period"] for name in ("worker", "relay", "ingest")} == {"50s"}


def test_the_ignore_file_at_the_root_is_the_images():
    # Docker's older builder reads the one at the root, BuildKit the one beside the Dockerfile.
    beside = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8") == beside
