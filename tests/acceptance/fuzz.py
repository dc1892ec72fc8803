"""Raw requests for the reference application, well-formed, nearly so, and not at all; the same seed makes the same ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable, Iterator

from tests.acceptance.ingesting import STANDARD, STRIPE

__all__ = ["corpus"]

PATHS = (
    b"/payments", b"/orders", b"/hooks/stripe", b"/hooks/standard", b"/payments/p-1", b"/readyz", b"/livez",
    b"/metrics", b"/openapi.json", b"/", b"*", b"http://x/payments", b"/payments/%00", b"/payments/%ff%fe",
    b"/payments/%ed%a0%80", b"/payments/../payments", b"//payments", b"/payments/", b"/payments?a=%00&b", b"/%2e%2e/",
    b"/payments/" + b"a" * 2_000,
)  # fmt: skip
METHODS = (
    b"POST",
    b"GET",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"CONNECT",
    b"post",
    b"P\0ST",
    b"",
)
FIELDS = (
    b"X-Tenant: t-%d", b"X-Tenant: ", b"X-Tenant: \xe4", b"X-Tenant: a\0", b"tenant: \xff\xfe", b"Idempotency-Key: k-%d",
    b'Idempotency-Key: "k-%d"', b'Idempotency-Key: "k', b"Idempotency-Key: a b", b"Idempotency-Key: \xff",
    b"Idempotency-Key: ", b'Idempotency-Key: "k";a=1', b"Idempotency-Key: " + b"k" * 300, b"Content-Encoding: gzip",
    b"Content-Encoding: identity", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 9" + b"9" * 30,
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Expect: 200-never",
    b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c", b"Connection: keep-alive, close", b"Host: y",
    b"Content-Type: application/json; charset=utf-16", b"Content-Type: multipart/form-data", b"Stripe-Signature: t=1,v1=00",
    b"Stripe-Signature: t=9" + b"9" * 400 + b",v1=00", b"webhook-id: \xff", b"webhook-timestamp: 1e400",
    b"webhook-signature: v1,%%%", b"traceparent: 00-zz", b"traceparent: \xff", b"Range: bytes=0-", b"X:", b":", b"X y: z",
    b" X: folded", b"X: a\rb", b"Accept: " + b"a," * 400, b"X: " + b"y" * 70_000, b"Cookie: \0",
)  # fmt: skip
VALUES: tuple[object, ...] = (
    None, True, 0, -1, 1, 10**12, 10**12 + 1, 10**400, 1.5, "", "a", "eur", "EURO", "\0", "\ud800", "\U0010ffff", "a" * 65,
    "x" * 5_000, [], {}, [[]], {"a": {"b": []}}, "blocked", "order-1", "2026-01-01",
)  # fmt: skip
TEXTS = (
    b"", b"null", b"[]", b"{", b'{"account":', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"NaN", b'{"amount":NaN}', b"[" * 20_000,
    b'{"a":' * 5_000, b'{"account":"a","account":"b","amount":1,"currency":"EUR"}', b"1" * 5_000, b'"\\ud800"', b"\0" * 100,
)  # fmt: skip


def corpus(seed: int, count: int) -> Iterator[bytes]:
    """So many requests, torn at no particular place."""
    chance = random.Random(seed)
    for number in range(count):
        data = _request(chance, number)
        for _ in range(chance.choice((0, 0, 0, 1, 1, 3))):
            data = chance.choice(_WAYS)(chance, data)
        yield data


def _request(chance: random.Random, number: int) -> bytes:
    if chance.random() < 0.03:
        return chance.randbytes(chance.randrange(1, 400))
    if chance.random() < 0.1:
        body = json.dumps(
            {"account": "a-1", "amount": chance.choice((1, 1, 1, 2)), "currency": "EUR"}
        ).encode()
        plain = b"Idempotency-Key: g-%d\r\nContent-Length: %d" % (chance.randrange(300), len(body))
        return b"POST /payments HTTP/1.1\r\nHost: x\r\n" + plain + b"\r\n\r\n" + body
    path, method = chance.choice(PATHS), chance.choice(METHODS)
    if chance.random() < 0.6:
        path, method = chance.choice(PATHS[:4]), b"POST"
    body = _body(chance, number, path) if method == b"POST" or chance.random() < 0.2 else b""
    fields = [b"Host: x", b"Idempotency-Key: k-%d" % chance.randrange(500)]
    if chance.random() < 0.6:
        fields += _signatures(path, body)
    for _ in range(chance.choice((0, 0, 1, 2, 5))):
        field = chance.choice(FIELDS)
        fields.append(field % number if b"%d" in field else field)
    if chance.random() < 0.02:
        fields += [b"X-%d: y" % each for each in range(150)]
    if chance.random() < 0.25:
        fields.append(b"Transfer-Encoding: chunked")
        body = _chunked(chance, body)
    elif body or chance.random() < 0.5:
        fields.append(b"Content-Length: %d" % (len(body) + chance.choice((0, 0, 0, 0, 0, 0, -1, 1, 5))))
    chance.shuffle(fields)
    version = chance.choice((b"HTTP/1.1",) * 12 + (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTQ/1.1"))
    return b"\r\n".join([method + b" " + path + b" " + version, *fields]) + b"\r\n\r\n" + body


def _body(chance: random.Random, number: int, path: bytes) -> bytes:
    if chance.random() < 0.12:
        return chance.choice(TEXTS)
    value: dict[str, object] = {"account": "a-1", "amount": 1 + number, "currency": "EUR"}
    if path == b"/orders":
        value["lines"] = [{"sku": "s", "qty": 1}]
    for _ in range(chance.choice((0, 0, 1, 2))):
        value[chance.choice((*value, "new"))] = chance.choice(VALUES)
    if path == b"/hooks/standard":
        value = {"type": "payments.requested", "data": value | {"payment_id": f"s-{number}"}}
    elif path == b"/hooks/stripe":
        item = {
            "amount": value["amount"],
            "currency": value["currency"],
            "metadata": {"payment_id": f"i-{number}"},
        }
        value = {"id": f"evt-{number}", "type": "payment_intent.succeeded", "data": {"object": item}}
    if chance.random() < 0.1:
        value[chance.choice((*value,))] = chance.choice(VALUES)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def _signatures(path: bytes, body: bytes) -> list[bytes]:
    now = b"%d" % time.time()
    if path == b"/hooks/stripe":
        signed = hmac.new(STRIPE.encode(), now + b"." + body, hashlib.sha256).hexdigest()
        return [b"Stripe-Signature: t=%s,v1=%s" % (now, signed.encode())]
    if path == b"/hooks/standard":
        name = hashlib.sha256(body).hexdigest()[:12].encode()
        secret = base64.b64decode(STANDARD.removeprefix("whsec_"))
        mac = hmac.new(secret, b".".join((name, now, body)), hashlib.sha256).digest()
        signature = base64.b64encode(mac)
        return [b"webhook-id: " + name, b"webhook-timestamp: " + now, b"webhook-signature: v1," + signature]
    return []


def _chunked(chance: random.Random, body: bytes) -> bytes:
    pieces, at = [], 0
    while at < len(body):
        size = chance.randrange(1, 1 + max(1, len(body)))
        piece = body[at : at + size]
        pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), chance.choice((b"", b"", b";a=b")), piece))
        at += size
    end = chance.choice((b"0\r\n\r\n",) * 5 + (b"0\r\nX: y\r\n\r\n", b"", b"-1\r\n\r\n", b"zz\r\n"))
    return b"".join(pieces) + end


def _flipped(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(1) + data[at + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _doubled(chance: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = chance.randrange(len(lines))
    return b"\r\n".join([*lines[:at], lines[at], *lines[at:]])


def _bare(chance: random.Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", chance.choice((b"\n", b"\r", b"\r\r\n")), chance.choice((1, 3, 1_000)))


def _inserted(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return (
        data[:at]
        + chance.choice((b"\0", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\xff", b"%00", b"\x1b[2J"))
        + data[at:]
    )


def _twice(chance: random.Random, data: bytes) -> bytes:
    return data + data


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flipped,
    _cut,
    _doubled,
    _bare,
    _inserted,
    _twice,
)
