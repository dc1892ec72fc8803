"""From what is counted and known to samples: plain values, by the metric's name. Asks nobody, so any thread may call it."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from consumer.entry import State
from consumer.observe.families import OUTCOMES, STATES, WAITS, Outcome
from consumer.observe.tally import Histogram, Tally
from consumer.path.desk import RESULTS, Desk
from consumer.worker.wiring import Runtime

__all__ = ["Samples", "of_process", "of_runtime", "of_tally", "of_webhooks"]

Samples = dict[str, list[tuple[tuple[str, ...], float | Histogram]]]
"""By the metric's name: the values of its labels, in order, and the value."""

_ADOPTED = {State.WAITING: Outcome.WAITING, State.IN_DOUBT: Outcome.IN_DOUBT, State.DEAD: Outcome.DEAD}


def of_process(*, ready: bool, lag: float) -> Samples:
    """Return what holds of every process, opened or not."""
    return {
        "consumer_ready": [((), float(ready))],
        "consumer_loop_lag_seconds": [((), lag)],
        "consumer_build_info": [((_version(), platform.python_version()), 1.0)],
    }


def of_tally(tally: Tally, runtime: Runtime | None) -> Samples:
    """Return what was counted on the path, and what was adopted."""
    adopted = {} if runtime is None else dict(runtime.sweep.adopted)
    outcomes: list[tuple[tuple[str, ...], float | Histogram]] = []
    for name, counts in tally.handlers.items():
        row = list(counts.outcomes)
        for state, outcome in _ADOPTED.items():
            row[outcome] += adopted.get((name, state), 0)
        outcomes += [((name, counts.mode, word), row[place]) for place, word in enumerate(OUTCOMES)]
    return {
        "consumer_outcomes_total": outcomes,
        "consumer_handler_seconds": [((name,), counts.seconds) for name, counts in tally.handlers.items()],
        "consumer_end_to_end_seconds": [
            ((name,), counts.end_to_end) for name, counts in tally.handlers.items()
        ],
    }


def of_runtime(runtime: Runtime) -> Samples:
    """Return what a running process knows of itself, and what it has looked up in store and broker."""
    names = [handler.name for handler in runtime.handlers]
    running = dict.fromkeys(names, 0)
    for attempt in list(runtime.parts.running.values()):
        running[attempt.work.handler.name] += 1
    relay, figures = runtime.relay, runtime.figures
    worst: dict[str, float] = {}
    for lag in figures.lags:
        worst[lag.topic] = max(worst.get(lag.topic, 0.0), lag.seconds)
    return {
        "consumer_running": _by_name(running),
        "consumer_stuck_handlers": [((), runtime.stuck)],
        "consumer_lag_messages": [((lag.topic, str(lag.partition)), lag.messages) for lag in figures.lags],
        "consumer_lag_seconds": _by_name(worst),
        "consumer_lanes_waiting": _by_name({name: figures.waiting.get(name, 0) for name in names}),
        "consumer_published_total": [((), relay.published if relay is not None else 0)],
        "consumer_unrouted_total": [((), sum(dict(runtime.parts.router.unrouted).values()))],
        "consumer_rebalances_total": [((), runtime.rebalances)],
        "consumer_worker_lapses_total": [((), runtime.sweep.lapses)],
        "consumer_purged_total": _by_name({name: runtime.sweep.purged[name] for name in names}),
        **_of_store(runtime, names),
    }


def of_webhooks(providers: Sequence[str], desk: Desk | None) -> Samples:
    """Return what became of webhook requests."""
    results = {} if desk is None else dict(desk.results)
    secrets = {} if desk is None else dict(desk.secrets)
    every = {(provider, result): 0 for provider in providers for result in RESULTS} | results
    first = {(provider, "0"): 0 for provider in providers} | secrets
    return {
        "consumer_ingest_results_total": [(labels, count) for labels, count in every.items()],
        "consumer_ingest_secret_matches_total": [(labels, count) for labels, count in first.items()],
    }


def _of_store(runtime: Runtime, names: Sequence[str]) -> Samples:
    figures, now = runtime.figures, time.time()
    backlog = figures.backlog
    if backlog is None:
        return {}  # not looked up yet: nothing is better than a 0 that nobody has counted
    entries = {(name, state): (0, 0.0) for name in names for state in STATES}
    entries |= {(c.handler, c.state): (c.count, max(now - c.oldest, 0.0)) for c in figures.counts}
    return {
        "consumer_entries": [((name, state.word), count) for (name, state), (count, _) in entries.items()],
        "consumer_oldest_entry_seconds": [
            ((name, state.word), age) for (name, state), (_, age) in entries.items() if state in WAITS
        ],
        "consumer_outbox_backlog": [((), backlog.unsent)],
        "consumer_outbox_parked": [((), backlog.parked)],
        "consumer_outbox_oldest_seconds": [
            ((), 0.0 if backlog.oldest is None else max(now - backlog.oldest, 0.0))
        ],
    }


def _by_name(values: Mapping[str, float]) -> list[tuple[tuple[str, ...], float | Histogram]]:
    return [((name,), value) for name, value in values.items()]


def _version() -> str:
    try:
        return version("idempotent-consumer")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
