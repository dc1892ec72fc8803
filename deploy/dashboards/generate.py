"""Writes consumer.json, the Grafana dashboard: `generate.py [--check]`. Panels are data; here is their one layout."""

# Programs for people at a terminal, in no package; what they run is ours.
# ruff: noqa: INP001, T201

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROWS", "dashboard"]

_N = 'namespace=~"$namespace"'
_H = f'{_N},handler=~"$handler"'

# Row: (title, panels); panel: (title, unit, description, (legend, query)…). Gauges of the store are told by every
# process: max and not sum.
ROWS: tuple[tuple[str, tuple[tuple[Any, ...], ...]], ...] = (
    (
        "Overview",
        (
            (
                "Outcomes",
                "ops",
                "What deliveries came to, a second.",
                (
                    "{{outcome}}",
                    f"sum by (outcome) (rate(consumer_outcomes_total{{{_H}}}[$__rate_interval]))",
                ),
            ),
            (
                "Ready processes",
                "short",
                "Processes that can do their work, of those that are scraped.",
                ("ready", f"sum(consumer_ready{{{_N}}})"),
                ("scraped", f"count(consumer_ready{{{_N}}})"),
            ),
            (
                "In doubt, dead",
                "short",
                "Entries that wait for a person.",
                (
                    "{{handler}} {{state}}",
                    f'max by (handler, state) (consumer_entries{{{_H},state=~"in_doubt|dead"}}) > 0',
                ),
            ),
            (
                "Duplicates suppressed",
                "percentunit",
                "Share of deliveries that had taken effect before.",
                (
                    "{{handler}}",
                    (
                        f'sum by (handler) (rate(consumer_outcomes_total{{{_H},outcome="duplicate"}}[$__rate_interval]))'
                        f" / sum by (handler) (rate(consumer_outcomes_total{{{_H}}}[$__rate_interval]))"
                    ),
                ),
            ),
        ),
    ),
    (
        "Handlers",
        (
            (
                "Handler time, p50 and p99",
                "s",
                "One attempt.",
                (
                    "{{handler}} p50",
                    (
                        "histogram_quantile(0.5, sum by (le, handler) "
                        f"(rate(consumer_handler_seconds_bucket{{{_H}}}[$__rate_interval])))"
                    ),
                ),
                (
                    "{{handler}} p99",
                    (
                        "histogram_quantile(0.99, sum by (le, handler) "
                        f"(rate(consumer_handler_seconds_bucket{{{_H}}}[$__rate_interval])))"
                    ),
                ),
            ),
            (
                "End to end, p99",
                "s",
                "From the message's timestamp until it is done.",
                (
                    "{{handler}}",
                    (
                        "histogram_quantile(0.99, sum by (le, handler) "
                        f"(rate(consumer_end_to_end_seconds_bucket{{{_H}}}[$__rate_interval])))"
                    ),
                ),
            ),
            (
                "Running",
                "short",
                "Attempts at this moment.",
                ("{{handler}}", f"sum by (handler) (consumer_running{{{_H}}})"),
            ),
            (
                "Conflicts, lost claims, dead",
                "ops",
                "What should be zero.",
                (
                    "{{handler}} {{outcome}}",
                    (
                        "sum by (handler, outcome) (rate(consumer_outcomes_total"
                        f'{{{_H},outcome=~"conflict|lost|dead|in_doubt"}}[$__rate_interval]))'
                    ),
                ),
            ),
            (
                "Oldest entry",
                "s",
                "By state; done entries are not among them.",
                ("{{handler}} {{state}}", f"max by (handler, state) (consumer_oldest_entry_seconds{{{_H}}})"),
            ),
            (
                "Lanes waiting",
                "short",
                "Ordering keys that wait behind an entry.",
                ("{{handler}}", f"max by (handler) (consumer_lanes_waiting{{{_H}}})"),
            ),
        ),
    ),
    (
        "Kafka",
        (
            (
                "Lag in messages",
                "short",
                "By topic, all partitions.",
                ("{{topic}}", f"sum by (topic) (consumer_lag_messages{{{_N}}})"),
            ),
            (
                "Lag in seconds",
                "s",
                "How long the next message has waited.",
                ("{{topic}}", f"max by (topic) (consumer_lag_seconds{{{_N}}})"),
            ),
            (
                "Rebalances",
                "short",
                "In the last five minutes.",
                ("rebalances", f"sum(increase(consumer_rebalances_total{{{_N}}}[5m]))"),
            ),
        ),
    ),
    (
        "Outbox",
        (
            (
                "Backlog",
                "short",
                "Committed, not yet published; and refused by the broker.",
                ("waiting", f"max(consumer_outbox_backlog{{{_N}}})"),
                ("parked", f"max(consumer_outbox_parked{{{_N}}})"),
            ),
            (
                "Oldest",
                "s",
                "How long the oldest outgoing message has waited.",
                ("oldest", f"max(consumer_outbox_oldest_seconds{{{_N}}})"),
            ),
            (
                "Published",
                "ops",
                "A second; and what went nowhere, because nobody subscribes to its embedded topic.",
                ("published", f"sum(rate(consumer_published_total{{{_N}}}[$__rate_interval]))"),
                ("unrouted", f"sum(rate(consumer_unrouted_total{{{_N}}}[$__rate_interval]))"),
            ),
        ),
    ),
    (
        "Ingest",
        (
            (
                "Webhooks",
                "ops",
                "By provider and result.",
                (
                    "{{provider}} {{result}}",
                    f"sum by (provider, result) (rate(consumer_ingest_results_total{{{_N}}}[$__rate_interval]))",
                ),
            ),
            (
                "Secrets that matched",
                "ops",
                "An old secret that nothing matches can be removed.",
                (
                    "{{provider}} {{secret}}",
                    f"sum by (provider, secret) (rate(consumer_ingest_secret_matches_total{{{_N}}}[$__rate_interval]))",
                ),
            ),
        ),
    ),
    (
        "Processes",
        (
            (
                "Event loop lag",
                "s",
                "How late the loop is.",
                ("{{pod}}", f"max by (pod) (consumer_loop_lag_seconds{{{_N}}})"),
            ),
            (
                "Handlers that ignore cancellation",
                "short",
                "Each holds a slot.",
                ("{{pod}}", f"max by (pod) (consumer_stuck_handlers{{{_N}}})"),
            ),
            (
                "Lapses",
                "short",
                "Workers that died without saying so, in the last hour.",
                ("lapses", f"sum(increase(consumer_worker_lapses_total{{{_N}}}[1h]))"),
            ),
            (
                "Purged",
                "ops",
                "Entries forgotten after their retention, a second.",
                ("{{handler}}", f"sum by (handler) (rate(consumer_purged_total{{{_H}}}[$__rate_interval]))"),
            ),
            (
                "Versions",
                "short",
                "Processes by version and Python.",
                ("{{version}} on {{python}}", f"count by (version, python) (consumer_build_info{{{_N}}})"),
            ),
        ),
    ),
)

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panel(number: int, where: dict[str, int], panel: tuple[Any, ...]) -> dict[str, Any]:
    title, unit, description, *targets = panel
    return {
        "id": number, "type": "timeseries", "title": title, "description": description,
        "datasource": _DATASOURCE, "gridPos": where,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}},
                        "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {"refId": chr(65 + index), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(targets)
        ],
    }  # fmt: skip


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}})  # fmt: skip
        top += 1
        for index, panel in enumerate(row):
            where = {"h": 8, "w": 8, "x": index % 3 * 8, "y": top + index // 3 * 8}
            panels.append(_panel(len(panels) + 1, where, panel))
        top += -(-len(row) // 3) * 8
    return panels


def _variable(name: str, query: str) -> dict[str, Any]:
    return {"name": name, "type": "query", "datasource": _DATASOURCE, "query": query, "refresh": 2, "sort": 1,
            "includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": "idempotent-consumer", "title": "Idempotent consumer", "tags": ["consumer"], "schemaVersion": 39,
        "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            _variable("namespace", "label_values(consumer_build_info, namespace)"),
            _variable("handler", f"label_values(consumer_outcomes_total{{{_N}}}, handler)"),
        ]},
        "panels": _panels(),
    }  # fmt: skip


def _main(*, check: bool) -> int:
    file = Path(__file__).parent / "consumer.json"
    text = json.dumps(dashboard(), indent=1) + "\n"
    if check and file.read_text(encoding="utf-8") != text:
        print(f"{file} is not what generate.py makes; run it", file=sys.stderr)
        return 1
    file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(check="--check" in sys.argv))
