"""The load: connections that each send a request, wait for its answer, and send the next. In a process of its own.

`python -m bench.web.client PORT KIND REQUESTS CONNECTIONS FIRST NAME` prints a JSON line: seconds, and latencies.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import sys
import time
from collections.abc import Iterator

from bench.web.sites import HOOK_SECRET

KINDS = ("new", "replay", "hook")
_SECRET = base64.b64decode(HOOK_SECRET.removeprefix("whsec_"))


def requests(kind: str, count: int, first: int) -> list[bytes]:
    """All of them, made before the clock runs: signing is the sender's."""
    return [_request(kind, first + number) for number in range(count)]


def _request(kind: str, number: int) -> bytes:
    payment = {"account": f"account-{number % 1_000}", "amount": 1 + number % 100, "currency": "EUR"}
    key = f"p-{number:08}"
    if kind == "hook":
        body = json.dumps(payment | {"payment_id": key}).encode()
        now = b"%d" % time.time()
        mac = hmac.new(_SECRET, b".".join((key.encode(), now, body)), hashlib.sha256).digest()
        head = b"webhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: v1,%s" % (
            key.encode(), now, base64.b64encode(mac),
        )  # fmt: skip
        path = b"/hook"
    else:
        body, path = json.dumps(payment).encode(), b"/payments"
        head = b"Idempotency-Key: " + key.encode()
    return b"POST %s HTTP/1.1\r\nHost: bench\r\n%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        path, head, len(body), body,
    )  # fmt: skip


async def _connection(port: int, todo: Iterator[bytes], took: list[float], replays: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in todo:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if length:
            await reader.readexactly(length)
        took.append(time.perf_counter() - began)
        if head[9:12] not in {b"200", b"201"} or (b"idempotent-replayed" in head) != replays:
            raise SystemExit(f"not what was expected: {head!r}")
    writer.close()


async def main(*given: str) -> None:
    """Send everything, and say how long it took."""
    port, kind, count, connections, first, measured = given
    todo = iter(requests(kind, int(count), int(first)))
    took: list[float] = []
    replays = measured == "replays"
    began = time.perf_counter()
    await asyncio.gather(*(_connection(int(port), todo, took, replays) for _ in range(int(connections))))
    seconds = time.perf_counter() - began
    took.sort()
    answer = {"seconds": seconds, "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
