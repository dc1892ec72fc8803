"""OpenTelemetry: one trace from an HTTP request or a record's sender to the handler, its outbox and the next handler.

Names follow the semantic conventions for messaging of 1.44, which are not stable yet; their strings are written out here,
because the package that holds them may move them. W3C `traceparent` and `tracestate` travel in the messages' own headers,
so they lie in the inbox and in the outbox with the message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from consumer.message import Envelope, Headers, Message, Outgoing, header
from consumer.ports.tracing import NOTHING, Span
from consumer.rules.keys import idempotency_key

__all__ = ["Spans", "provider"]

_W3C = TraceContextTextMapPropagator()
_FIELDS = ("traceparent", "tracestate")
_ROOT = Context()
"""Of nothing: what stands in no message's headers begins a trace of its own."""


def provider() -> trace.TracerProvider | None:
    """Return the tracer provider that somebody has set; `None` where nobody has, so that nothing would be recorded."""
    known = trace.get_tracer_provider()
    return None if isinstance(known, trace.ProxyTracerProvider | trace.NoOpTracerProvider) else known


class Spans:
    """`ports.tracing.Tracing` on OpenTelemetry's API.

    Args:
        tracers: makes the tracer.
        app: the app's name.
        consumer_group: the Kafka consumer group, named where messages come from Kafka.
    """

    def __init__(self, tracers: trace.TracerProvider, app: str, consumer_group: str) -> None:
        self._tracer = tracers.get_tracer("consumer")
        self._app = app
        self._group = consumer_group

    @contextmanager
    def attempt(
        self, handler: str, envelopes: Sequence[Envelope], attempt: int, *, operation: str = "process"
    ) -> Iterator[Span]:
        """See `ports.tracing.Tracing`.

        The parent is what goes on already (a direct call inside a request), else the message's own context, which is
        linked to as well. A batch has no parent among its messages, only links.
        """
        first = envelopes[0].message
        attributes = self._of_messaging(operation, "process", first.topic, first.source)
        attributes |= {"consumer.app": self._app, "consumer.handler": handler, "consumer.attempt": attempt}
        if first.source == "kafka":
            attributes["messaging.consumer.group.name"] = self._group
        origins = [origin for each in envelopes if (origin := _origin(each.message.headers)) is not None]
        if len(envelopes) > 1:
            attributes["messaging.batch.message_count"] = len(envelopes)
        else:
            attributes |= _of_message(first)
            attributes["consumer.idempotency_key"] = idempotency_key(envelopes[0].identity)
        under: Context | None = None  # what goes on now
        if not _current().is_valid:
            under = origins[0] if len(envelopes) == 1 and origins else _ROOT
        with self._tracer.start_as_current_span(
            f"{operation} {first.topic}",
            under,
            SpanKind.CONSUMER,
            attributes,
            [Link(trace.get_current_span(origin).get_span_context()) for origin in origins],
            record_exception=False,  # the text of an exception may hold keys and payloads
            set_status_on_exception=False,
        ) as span:
            yield _Open(span, "consumer.outcome")

    def request(
        self, method: str, route: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> AbstractContextManager[Span]:
        """See `ports.tracing.Tracing`."""
        return NOTHING if _current().is_valid else self._request(method, route, headers)

    @contextmanager
    def _request(self, method: str, route: str, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[Span]:
        told = tuple((name.decode("latin-1").lower(), value) for name, value in headers)
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            _origin(told) or _ROOT,
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route, "consumer.app": self._app},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _Open(span, "http.response.status_code")

    @contextmanager
    def publishing(self, topic: str) -> Iterator[Span]:
        """See `ports.tracing.Tracing`."""
        with self._tracer.start_as_current_span(
            f"send {topic}",
            kind=SpanKind.PRODUCER,
            attributes=self._of_messaging("send", "send", topic, None) | {"consumer.app": self._app},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _Open(span, "consumer.outcome")

    def carried(self, headers: Headers) -> Headers:
        """See `ports.tracing.Tracing`. What an author has written is left alone."""
        if not _current().is_valid or any(name.lower() in _FIELDS for name, _ in headers):
            return headers
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return (*headers, *((name, value.encode()) for name, value in carrier.items()))

    def sent(self, outgoing: Outgoing, began: int, refused: str | None) -> None:
        """See `ports.tracing.Tracing`. A message without a context has no span: it would be a trace of one line."""
        origin = _origin(outgoing.headers)
        if origin is None:
            return
        attributes = self._of_messaging("send", "send", outgoing.topic, "kafka")
        attributes |= {"consumer.app": self._app, "messaging.message.id": outgoing.id.hex()}
        span = self._tracer.start_span(
            f"send {outgoing.topic}", origin, SpanKind.CLIENT, attributes, start_time=began
        )
        _Open(span, "consumer.outcome").ended(
            "sent" if refused is None else "refused", failed=refused is not None
        )
        span.end()

    def _of_messaging(
        self, name: str, kind: str, topic: str, source: str | None
    ) -> dict[str, AttributeValue]:
        return {
            "messaging.system": "kafka" if source == "kafka" else "consumer",
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": topic,
        }


class _Open:
    """A span that has not ended."""

    __slots__ = ("_outcome", "_span")

    def __init__(self, span: trace.Span, outcome: str) -> None:
        self._span = span
        self._outcome = outcome

    def ended(self, outcome: str, error: BaseException | None = None, *, failed: bool = False) -> None:
        """See `ports.tracing.Span`."""
        self._span.set_attribute(self._outcome, int(outcome) if outcome.isdigit() else outcome)
        if error is not None or failed:
            self._span.set_attribute("error.type", outcome if error is None else type(error).__qualname__)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR))


def _current() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()


def _origin(headers: Headers) -> Context | None:
    """Return the context that headers name; `None` where they name none that can be one."""
    parent = header(headers, "traceparent")
    if parent is None:
        return None
    carrier = {"traceparent": parent.decode("latin-1")}
    state = header(headers, "tracestate")
    if state is not None:
        carrier["tracestate"] = state.decode("latin-1")
    found = _W3C.extract(carrier, _ROOT)
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def _of_message(message: Message) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"consumer.source": message.source}
    sent_as = header(message.headers, "message-id")
    if sent_as is not None:
        attributes["messaging.message.id"] = sent_as.decode("latin-1")
    if message.position is not None:
        _, partition, offset = message.position.rsplit("/", 2)
        attributes["messaging.destination.partition.id"] = partition
        attributes["messaging.kafka.offset"] = int(offset)
    if message.value is None:
        attributes["messaging.kafka.message.tombstone"] = True
    return attributes
