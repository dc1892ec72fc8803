"""Whether this process traces, decided once when an app is opened; who does not trace pays nothing for it."""

from __future__ import annotations

import os
import sys

from consumer.ports.tracing import Tracing, Untraced

__all__ = ["tracing_of"]


def tracing_of(app: str, consumer_group: str) -> Tracing:
    """Return what draws this process' spans: OpenTelemetry's provider where one is set, else nothing.

    A provider is set by the application (`trace.set_tracer_provider`), by `opentelemetry-instrument`, or by the
    environment (`OTEL_PYTHON_TRACER_PROVIDER`). Without one nothing of OpenTelemetry is imported here.

    Args:
        app: the app's name.
        consumer_group: the Kafka consumer group, named where messages come from Kafka.
    """
    if "opentelemetry.trace" not in sys.modules and "OTEL_PYTHON_TRACER_PROVIDER" not in os.environ:
        return Untraced()
    try:
        from consumer.observe.spans import Spans, provider  # noqa: PLC0415 - only who traces needs OpenTelemetry
    except ModuleNotFoundError:
        return Untraced()
    tracers = provider()
    return Untraced() if tracers is None else Spans(tracers, app, consumer_group)
