"""The second half of the demo: one payment by every way in at once. Nothing but the standard library sends it."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["PAYMENT", "STANDARD_SECRET", "STRIPE_SECRET", "TIMES", "send_by_all_ways"]

TIMES = 25
"""How often it is sent by each way."""

PAYMENT = {"payment_id": "p-once", "account": "account-01", "amount": 4_200, "currency": "EUR"}
STRIPE_SECRET = "whsec_stripe_of_the_demo"  # noqa: S105 - of a server that lives for seconds
STANDARD_KEY = b"of the demo, 24 bytes ..."
STANDARD_SECRET = "whsec_" + base64.b64encode(STANDARD_KEY).decode()


def send_by_all_ways(address: str, publish: Callable[[], None]) -> Counter[str]:
    """Send the payment `TIMES` times by HTTP and by each webhook, while `publish` runs; return what was answered.

    Args:
        address: of the ingest: `http://127.0.0.1:8080`.
        publish: publishes it to its topic, `TIMES` times.

    Returns:
        How often which answer came: `http 201`, `http 201 replayed`, `stripe 200`, …; and `different bodies`: how many
        bodies the 201s had.
    """
    answers: Counter[str] = Counter()
    bodies: set[bytes] = set()
    gate = threading.Barrier(3 * TIMES + 1)

    def send(way: str, number: int) -> tuple[str, bytes]:
        gate.wait()
        return _answered(way, address, number)

    def publish_too() -> None:
        gate.wait()
        publish()

    with ThreadPoolExecutor(3 * TIMES + 1) as pool:
        sent = [pool.submit(send, way, number) for number in range(TIMES) for way in _WAYS]
        published = pool.submit(publish_too)
        for future in sent:
            answer, body = future.result()
            answers[answer] += 1
            if answer.startswith("http 201"):
                bodies.add(body)
        published.result()
    answers["different bodies"] = len(bodies)
    return answers


def _answered(way: str, address: str, number: int) -> tuple[str, bytes]:
    """Send one request; come again as one is told to, as every client of such a service does."""
    while True:
        request = _WAYS[way](number)
        request.full_url = address + request.selector
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - our own address
                replayed = " replayed" if reply.headers["Idempotent-Replayed"] else ""
                return f"{way} {reply.status}{replayed}", reply.read()
        except urllib.error.HTTPError as refused:
            with refused:
                after = refused.headers["Retry-After"]
                if after is None:
                    return f"{way} {refused.code}", refused.read()
        time.sleep(float(after))


def _http(number: int) -> urllib.request.Request:  # noqa: ARG001 - the same every time
    body = {name: value for name, value in PAYMENT.items() if name != "payment_id"}
    return _request("/payments", json.dumps(body).encode(), {"Idempotency-Key": str(PAYMENT["payment_id"])})


def _stripe(number: int) -> urllib.request.Request:
    metadata = {"payment_id": PAYMENT["payment_id"], "account": PAYMENT["account"]}
    intent = {"amount": PAYMENT["amount"], "currency": "eur", "metadata": metadata}
    event = {"id": f"evt_{number}", "type": "payment_intent.succeeded", "data": {"object": intent}}
    body, now = json.dumps(event).encode(), int(time.time())
    signature = hmac.new(STRIPE_SECRET.encode(), b"%d." % now + body, "sha256").hexdigest()
    return _request("/hooks/stripe", body, {"Stripe-Signature": f"t={now},v1={signature}"})


def _standard(number: int) -> urllib.request.Request:
    body = json.dumps({"type": "payments.requested", "data": PAYMENT}).encode()
    event, now = f"msg_{number}", int(time.time())
    content = f"{event}.{now}.".encode() + body
    signature = base64.b64encode(hmac.new(STANDARD_KEY, content, "sha256").digest()).decode()
    headers = {"webhook-id": event, "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}
    return _request("/hooks/standard", body, headers)


_WAYS = {"http": _http, "stripe": _stripe, "standard": _standard}


def _request(path: str, body: bytes, headers: dict[str, str]) -> urllib.request.Request:
    return urllib.request.Request(f"http://demo{path}", body, headers, method="POST")
