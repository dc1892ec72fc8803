"""`docs/metrics.md`, generated from the table of metrics: `python -m consumer.observe.metrics_page > docs/metrics.md`."""

from __future__ import annotations

import sys

from consumer.observe.families import FAMILIES, Family, Kind
from consumer.observe.tally import END_TO_END, HANDLER

__all__ = ["metrics_page"]

_HEAD = """# Health and metrics

Generated from `consumer/observe/`; `python -m consumer.observe.metrics_page > docs/metrics.md` renews it, and a test
compares.

`consumer run` and `consumer relay` answer on a port of their own: `--health-port PORT` (and `--health-host 0.0.0.0` where
others than this machine ask). `consumer ingest` answers on the port that it serves, and on such
a port too: let orchestrators ask there, because clients can use up the connections of the other. None of it needs
authentication, none of it names a key or a tenant.

## Health

| path | 503 when | what an orchestrator does about it |
|---|---|---|
| `/livez` | the event loop has been held for `loop_limit` seconds, or a part of the process has ended by a bug | starts a new process |
| `/readyz` | of that too; it is not open yet or is ending; the store refuses, or the sign of life is not renewed; the broker is away or a partition cannot be read (a relay: the broker does not take what is in the outbox); handlers that ignore their cancellation hold every slot; a message has been in hand for longer than `unfinished_limit` | waits, and sends an ingest no requests |
| `/startupz` | the event loop does not run yet | waits |

The body is JSON: `{"status": "not ready", "reasons": ["it is ending"]}`. A worker answers from threads of its own, so a held
event loop is seen and told. No answer asks a store or a broker: `/livez` must not fail because they are away, since a new
process would not bring them back, and `/readyz` says what the process has noticed by itself. A store that refuses
is noticed by the worker's own questions, a second after the first refusal and again at the first answer; one that takes
connections and never answers, after seven tenths of `worker_ttl` (10.5 s) at the latest; a broker after 10 s. The ingest's
`/readyz` asks its store, once a second at most.

Whoever holds the event loop for more than a second is named in a warning while it lasts: the handler, and the line of code.

With `--processes N` every process answers for itself, on PORT, PORT + 1, … PORT + N - 1; what supervises them answers
nothing. In a cluster run one process a pod.

## Metrics

`GET /metrics`, in Prometheus' text format; it needs the extra `metrics` (prometheus-client), and answers 501 without it.
Counting itself needs nothing: it is a few additions per delivery.

Every combination of handler, mode and outcome is there at 0 from the start, so the first one is seen by `rate` and
`increase`. What only the store or the broker know is looked up by the process every 10 s, never at a scrape, and less
often where counting a large inbox takes long (a twentieth of the time at most); while they are away the last figures
stay. Every process of an app tells the same of its store: take `max`, not `sum`, of the metrics marked *store*.

| metric | kind | labels | told by | what it says |
|---|---|---|---|---|
"""

_TAIL = """
Upper bounds of the histograms, in seconds: `consumer_handler_seconds` {handler}; `consumer_end_to_end_seconds`
{end_to_end}.

Beside them stand prometheus-client's `process_*` (memory, processor time, open files).

## What counters and tables say of each other

For the messages of a broker, with workers that all are scraped and have not been restarted: `done` is the number of entries
that became done, and an entry that is dead or in doubt has been counted as `dead` or `in_doubt` once, unless people have
changed it since. Each further delivery of a key is one `duplicate` or one `conflict`. Not counted anywhere: what other
commands land (`consumer publish`), conflicts and duplicates among messages that handlers publish to embedded topics, what
people resolve and redrive, and what `reconcile` finds out.

A dead process takes its counters with it; `rate` and `increase` allow for that.
"""


def metrics_page() -> str:
    """Return the page."""
    tail = _TAIL.format(handler=_listed(HANDLER), end_to_end=_listed(END_TO_END))
    return _HEAD + "".join(f"{_line(family)}\n" for family in FAMILIES) + tail


def _line(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    suffix = " (`_bucket`, `_sum`, `_count`)" if family.kind is Kind.HISTOGRAM else ""
    return (
        f"| `{family.name}`{suffix} | {family.kind.value} | {labels} | {family.told_by} |"
        f" {family.text.replace('|', chr(92) + '|')} |"
    )


def _listed(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
