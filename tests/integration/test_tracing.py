"""One trace from a request to its handler, its outbox and the next handler; read from OpenTelemetry's in-memory exporter."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from standardwebhooks import Webhook

from consumer.declare.outgoing import outgoing_of
from consumer.entry import State
from consumer.settings import Settings
from tests.acceptance.shop import produce, read_all
from tests.http.shopkit import STANDARD_SECRET, Site, migrated, serving, until
from tests.integration.tracekit import PARENT, TRACE, Traces, the_app, traced

KEY = "order-of-somebody-1"


@pytest.fixture
def traces(monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", STANDARD_SECRET)
    with traced(monkeypatch) as made:
        yield made


async def comes(traces: Traces, name: str, count: int = 1) -> None:
    async def there() -> bool:
        return len(traces.named(name)) >= count

    await until(there, f"{count} of {name!r}, there are {[span.name for span in traces.all()]}")


async def hooked(site: Site, body: str, context: str) -> None:
    """Send one event as its provider does."""
    now = datetime.now(UTC)
    signed = {
        "webhook-id": "event-1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(STANDARD_SECRET).sign("event-1", now, body),
        "traceparent": context,
    }
    reply = await site.post("/hooks/orders", None, body.encode(), list(signed.items()))
    assert reply.status_code < 300, reply.text


async def test_from_a_request_through_the_inbox_to_the_next_handler(traces, tmp_path):
    """Mutants: the next handler begins a trace of its own; the request's traceparent is not read."""
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with serving(app, url, consume=True) as site:
        reply = await site.post("/orders", KEY, {"amount": 5}, [("traceparent", PARENT)])
        assert reply.status_code == 201
        await comes(traces, "process bills")
    request, take, bill = (traces.one(n) for n in ("POST /orders", "process orders", "process bills"))
    assert {traces.trace_of(span) for span in traces.all()} == {TRACE}
    assert traces.parent_of(request) == PARENT.split("-")[2]
    assert traces.parent_of(take) == traces.id_of(request)
    assert traces.parent_of(bill) == traces.id_of(take)
    assert traces.links_of(bill) == [traces.id_of(take)]
    assert (request.kind, bill.kind) == (SpanKind.SERVER, SpanKind.CONSUMER)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/orders",
        "http.response.status_code": 201,
        "consumer.app": "traced",
    }


async def test_from_a_request_through_outbox_and_kafka_to_the_next_handler(traces, postgres_url, kafka):
    """Mutants: the relay writes a traceparent of its own; Kafka's headers are not read."""
    orders, bills = await kafka.fresh_topic(), await kafka.fresh_topic()
    app = the_app(orders, bills)
    await migrated(app, postgres_url)
    broker = {"broker": f"kafka://{kafka.bootstrap}", "consumer_group": bills}
    settings = Settings(store=postgres_url, **broker)
    async with app.running(settings, consume=True, handlers=app.handlers.declared[:2]):
        async with serving(app, postgres_url, **broker) as site:
            assert (
                await site.post("/orders", KEY, {"amount": 5}, [("traceparent", PARENT)])
            ).status_code == 201
        await comes(traces, f"process {bills}")
        await produce(
            kafka.bootstrap,
            orders,
            [(None, b'{"order_id":"from-kafka"}')],
            [("traceparent", PARENT.encode())],
        )
        await comes(traces, f"process {bills}", 2)
    taken, bill = traces.named(f"process {orders}"), traces.named(f"process {bills}")
    sent = traces.named(f"send {bills}")
    assert {traces.trace_of(span) for span in traces.all()} == {TRACE}
    for which in (0, 1):
        assert traces.parent_of(bill[which]) == traces.parent_of(sent[which]) == traces.id_of(taken[which])
    assert traces.parent_of(taken[1]) == PARENT.split("-")[2], (
        "a record's own context is its handler's parent"
    )
    assert bill[1].attributes is not None
    assert bill[1].attributes["messaging.consumer.group.name"] == bills
    assert bill[1].attributes["messaging.kafka.offset"] == 1
    [first, _] = await read_all(kafka.bootstrap, bills)
    contexts = [value.decode() for name, value in first.headers if name == "traceparent"]
    assert contexts == [f"00-{TRACE}-{traces.id_of(taken[0])}-01"], "the one of the attempt that published it"


async def test_a_webhook_is_landed_with_its_context_and_run_by_another_process(traces, tmp_path):
    """Mutant: what is landed forgets which request has brought it."""
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with serving(app, url) as site:
        await hooked(site, json.dumps({"order_id": KEY}), PARENT)
    assert [span.name for span in traces.all()] == ["POST /hooks/orders"]
    async with app.running(Settings(store=url), consume=True):
        await comes(traces, "process orders")
    assert traces.trace_of(traces.one("process orders")) == TRACE
    assert traces.parent_of(traces.one("process orders")) == traces.id_of(traces.one("POST /hooks/orders"))


async def test_an_event_that_cannot_be_decoded_is_one_dead_letter_however_often_it_is_sent(traces, tmp_path):
    """Every sending is a request with a context of its own. Mutant: the context counts for a dead letter's identity."""
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with serving(app, url) as site:
        for number in (1, 2, 3):
            await hooked(site, "not JSON", f"00-{TRACE}-{number:016x}-01")
        assert [entry.state for entry in await site.entries()] == [State.DEAD]


async def test_every_attempt_is_a_span_of_the_same_parent_and_says_how_it_ended(traces, tmp_path):
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with app.running(Settings(store=url), consume=True) as running:
        with traces.tracer.start_as_current_span("a program"):
            await running.publish("flaky", {"order_id": KEY})
        await comes(traces, "process flaky", 3)
    attempts = traces.named("process flaky")
    sent = traces.one("send flaky")
    assert sent.kind is SpanKind.PRODUCER
    assert traces.parent_of(sent) == traces.id_of(traces.one("a program"))
    assert {traces.parent_of(span) for span in attempts} == {traces.id_of(sent)}
    told = [
        (s.attributes["consumer.attempt"], s.attributes["consumer.outcome"], s.attributes.get("error.type"))
        for s in attempts
        if s.attributes is not None
    ]
    assert told == [(1, "retry", "Retry"), (2, "raised", "RuntimeError"), (3, "returned", None)]
    assert [s.status.status_code for s in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]


async def test_no_key_and_no_payload_is_in_a_span(traces, tmp_path):
    """Mutants: the key as an attribute; the text of an exception in an event."""
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with serving(app, url, consume=True) as site:
        await site.post("/orders", KEY, {"amount": 5})
        await site.running.publish("flaky", {"order_id": KEY})
        await comes(traces, "process flaky", 3)
        await comes(traces, "process bills")
    assert traces.all()
    for span in traces.all():
        assert KEY not in span.to_json()
    take = traces.one("process orders")
    assert take.attributes is not None
    assert len(str(take.attributes["consumer.idempotency_key"])) == 26, "hashed"


async def test_a_batch_is_a_span_of_its_own_that_links_to_its_messages(traces, tmp_path):
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    contexts = [f"00-{TRACE}-{n:016x}-01" for n in (1, 2, 3)]
    async with app.open(Settings(store=url)) as running:
        await running.publish_all(
            [
                outgoing_of(
                    n.to_bytes(16, "big"),
                    "many",
                    {"order_id": f"{KEY}-{n}"},
                    ordering_key=None,
                    headers={"traceparent": context},
                    delay=0,
                )
                for n, context in enumerate(contexts)
            ]
        )
    async with app.running(Settings(store=url), consume=True):
        await comes(traces, "process many")
    batch = traces.one("process many")
    assert batch.parent is None
    assert sorted(traces.links_of(batch)) == [context.split("-")[2] for context in contexts]
    assert batch.attributes is not None
    assert batch.attributes["messaging.batch.message_count"] == 3


async def test_a_request_that_is_traced_already_gets_no_second_span(traces, tmp_path):
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with serving(app, url) as site:
        with traces.tracer.start_as_current_span("an instrumented server"):
            await site.post("/orders", KEY, {"amount": 5}, [("traceparent", PARENT)])
    assert traces.named("POST /orders") == []
    assert traces.parent_of(traces.one("process orders")) == traces.id_of(
        traces.one("an instrumented server")
    )


@pytest.mark.parametrize(
    "context", ["", "00-xyz", f"00-{'0' * 32}-b7ad6b7169203331-01", "\xff" * 55, "00-" * 4000]
)
async def test_a_context_that_is_none_begins_a_new_trace(traces, tmp_path, context):
    app = the_app()
    url = await migrated(app, f"sqlite:///{tmp_path}/shop.db")
    async with app.running(Settings(store=url), consume=True) as running:
        await running.publish("orders", {"order_id": KEY}, headers={"traceparent": context.encode("latin-1")})
        await comes(traces, "process bills")
    take, bill = traces.one("process orders"), traces.one("process bills")
    assert (take.parent, traces.links_of(take)) == (None, [])
    assert traces.parent_of(bill) == traces.id_of(take)


PROGRAM = """
import asyncio, sys
from consumer import App, AtMostOnce, Context, Key
from consumer.entry import State
from consumer.settings import Settings

app = App("quiet")
heard = []

@app.on("a", key=Key.field("id"), mode=AtMostOnce())
async def a(value: dict, ctx: Context) -> None:
    heard.append(ctx.message.headers)

async def main():
    async with app.running(Settings(store="memory:"), consume=True) as running:
        await running.publish("a", {"id": "1"})
        while not heard:
            await asyncio.sleep(0.01)

asyncio.run(main())
print([name for headers in heard for name, _ in headers], any("opentelemetry" in m for m in sys.modules))
"""


@pytest.mark.parametrize(
    ("before", "imported"), [("", "False"), ("from opentelemetry import trace\n", "True")]
)
def test_who_does_not_trace_imports_nothing_and_sends_nothing(before, imported):
    done = subprocess.run(
        [sys.executable, "-c", before + PROGRAM], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout.split("\n")[0] == f"['message-id'] {imported}"


def test_the_process_own_provider_was_left_alone():
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
