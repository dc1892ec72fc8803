"""An application whose spans a test can read, and how it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec import Struct
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from consumer import App, AtLeastOnce, AtMostOnce, Backoff, Batch, Context, Key, Retry, Transactional
from consumer.http import Request, single_tenant
from consumer.observe import spans as under_test
from consumer.settings import Secret
from consumer.webhooks import StandardWebhooks

__all__ = ["PARENT", "TRACE", "Traces", "the_app", "traced"]

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
"""The example of the W3C's recommendation."""


class Order(Struct):
    order_id: str
    amount: int = 1


class Body(Struct):
    amount: int


class Traces:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter, tracer: trace.Tracer) -> None:
        self._exporter = exporter
        self.tracer = tracer

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [found] = self.named(name)
        return found

    @staticmethod
    def trace_of(span: ReadableSpan) -> str:
        return trace.format_trace_id(span.context.trace_id)

    @staticmethod
    def parent_of(span: ReadableSpan) -> str | None:
        return None if span.parent is None else trace.format_span_id(span.parent.span_id)

    @staticmethod
    def id_of(span: ReadableSpan) -> str:
        return trace.format_span_id(span.context.span_id)

    @staticmethod
    def links_of(span: ReadableSpan) -> list[str]:
        return [trace.format_span_id(link.context.span_id) for link in span.links]


@contextmanager
def traced(patch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """Trace what is opened inside; the provider of the process stays as it is, because it can be set only once."""
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    patch.setattr(under_test, "provider", lambda: made)
    yield Traces(exporter, made.get_tracer("test"))
    made.shutdown()


def _from_http(body: Body, request: Request) -> Order:
    return Order(request.key, body.amount)


def the_app(orders: str = "orders", bills: str = "bills") -> App:
    """`orders` publishes one of `bills` per order; `POST /orders` and `/hooks/orders` are ways into it."""
    app = App("traced")

    @app.on(orders, key=Key.field("order_id"), mode=Transactional(), same=("amount",))
    async def take(order: Order, ctx: Context) -> str:
        ctx.publish(bills, order, ordering_key=order.order_id)
        return order.order_id

    @app.on(bills, key=Key.field("order_id"), mode=AtMostOnce())
    async def bill(order: Order) -> None:
        pass

    @app.on("flaky", key=Key.field("order_id"), mode=AtLeastOnce(Backoff(3, first=0.01)))
    async def flaky(order: Order, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise Retry(f"not yet, says {order.order_id}")
        if ctx.attempt == 2:
            raise RuntimeError(f"no, says {order.order_id}")

    @app.on("many", key=Key.field("order_id"), mode=Transactional(), batch=10)
    async def many(orders: Batch[Order]) -> None:
        pass

    app.endpoint("POST", "/orders", take, translate=_from_http, tenant=single_tenant, status=201)
    app.webhook("/hooks/orders", StandardWebhooks(secret=Secret.env("HOOK_SECRET")), topic=orders)
    return app
