"""Samples in Prometheus' text format. The only module that needs prometheus-client, and only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from consumer.observe.families import FAMILIES, Family, Kind
from consumer.observe.samples import Samples
from consumer.observe.tally import Histogram

__all__ = ["MISSING", "Exposition"]

MISSING = "metrics need prometheus-client: pip install 'idempotent-consumer[metrics]'\n"


class Exposition:
    """Renders one process' samples, and what prometheus-client knows of the process (`process_*`).

    Args:
        samples: returns them; called by whatever thread serves the scrape.
    """

    def __init__(self, samples: Callable[[], Samples]) -> None:
        self._samples = samples
        self._registry: Any = None

    def render(self) -> tuple[int, str, bytes]:
        """Return status, content type and body; 501 where prometheus-client is not installed."""
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, exposition  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            return 501, "text/plain; charset=utf-8", MISSING.encode()
        if self._registry is None:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Collector(self._samples))
            ProcessCollector(registry=registry)
            self._registry = registry
        return 200, exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(self._registry)


class _Collector:
    """What a registry asks; see prometheus-client's custom collectors."""

    def __init__(self, samples: Callable[[], Samples]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Any]:
        samples = self._samples()
        for family in FAMILIES:
            yield _made(family, samples)


def _made(family: Family, samples: Samples) -> Any:
    from prometheus_client import core  # noqa: PLC0415 - as above

    text = family.text.replace("`", "")
    if family.kind is Kind.HISTOGRAM:
        histogram = core.HistogramMetricFamily(family.name, text, labels=family.labels)
        for labels, value in samples.get(family.name, ()):
            if isinstance(value, Histogram):
                histogram.add_metric(labels, buckets=_buckets(value), sum_value=value.total)
        return histogram
    made: Any = core.CounterMetricFamily if family.kind is Kind.COUNTER else core.GaugeMetricFamily
    plain = made(family.name, text, labels=family.labels)
    for labels, value in samples.get(family.name, ()):
        plain.add_metric(labels, value)
    return plain


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    counted, buckets = 0, []
    bounds = [*map(str, histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, list(histogram.counts), strict=True):
        counted += count
        buckets.append((bound, float(counted)))
    return buckets
