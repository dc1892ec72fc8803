"""Health without a process: what each path says, from a thread of its own, while the event loop is held."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import re
import socket
import threading
import time
from typing import Any

import pytest

from consumer import App
from consumer.errors import SettingsError
from consumer.observe.server import AT_ONCE, serving
from consumer.observe.watch import LoopWatch
from consumer.settings import Settings


def asked(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.headers["content-type"], reply.read()
    finally:
        connection.close()


def told(path: str, more: tuple[str, ...] = ()) -> tuple[int, str, bytes]:
    return 200, "text/plain", path.encode()


def test_paths_are_answered_without_their_query_and_head_has_no_body() -> None:
    with serving(told, "127.0.0.1", 0) as port:
        assert asked(port, "/livez?verbose=1") == (200, "text/plain", b"/livez")
        assert asked(port, "/livez", "HEAD") == (200, "text/plain", b"")
        assert asked(port, "/livez", "POST")[0] == 501


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refusal = f"health_port = {port}: cannot listen on 127.0.0.1:{port}"
        with pytest.raises(SettingsError, match=refusal), serving(told, "127.0.0.1", port):
            pass


def test_slow_clients_do_not_keep_the_others_out_for_ever() -> None:
    with serving(told, "127.0.0.1", 0) as port:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(AT_ONCE)]
        try:
            # Refused at once, not queued behind them: an orchestrator's next question finds a free place.
            with pytest.raises((http.client.HTTPException, OSError)):
                asked(port, "/livez")
        finally:
            for each in slow:
                each.close()
        answered = 0
        while not answered:  # its threads notice one by one that nobody is there
            with contextlib.suppress(http.client.HTTPException, OSError):
                answered = asked(port, "/livez")[0]
        assert answered == 200


async def test_a_held_loop_is_seen_by_another_thread_and_its_holder_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "consumer.loop")
    watch = LoopWatch(lambda task: "shop:hold (shop.py:1)" if task.get_name() == "holder" else None, held=0.3)
    seen: list[float] = []

    def look() -> None:
        for _ in range(1_000):
            if (held := watch.held) >= 0.6 and caplog.records:
                seen.append(held)
                return
            time.sleep(0.02)

    async def hold() -> None:
        threading.Thread(target=look, daemon=True).start()
        _hold_until(seen)

    with watch.watching():
        await asyncio.create_task(hold(), name="holder")
        assert watch.lag >= 0.5, "the past one is told for a while"
    assert seen, "another thread has seen it while it was held"
    assert watch.held == 0.0
    assert not watch.ticks
    [record] = caplog.records
    assert re.match(
        r"shop:hold \(shop\.py:1\) holds the event loop for \d+\.\d s already", record.getMessage()
    )
    assert "test_metrics_health.py:" in record.getMessage()


def _hold_until(seen: list[Any]) -> None:
    """Hold the loop, from this very file, until a thread has seen what it looks for."""
    over = time.monotonic() + 20
    while not seen and time.monotonic() < over:
        time.sleep(0.02)


def body_of(answer: tuple[int, str, bytes]) -> tuple[int, Any]:
    status, kind, body = answer
    assert kind == "application/json"
    return status, json.loads(body)


async def test_before_it_is_open_a_process_lives_and_is_not_ready() -> None:
    observed = App("shop").observed(Settings())
    assert body_of(observed.answer("/startupz"))[0] == 503
    with observed.served():
        assert body_of(observed.answer("/startupz")) == (200, {"status": "started"})
        assert body_of(observed.answer("/livez")) == (200, {"status": "alive"})
        status, body = body_of(observed.answer("/readyz"))
        assert (status, body["status"]) == (503, "not ready")
        assert body["reasons"] == ["it is not open: it waits for its store or its broker, or it ends"]
    assert body_of(observed.answer("/nothing"))[0] == 404


async def test_a_loop_that_is_held_beyond_the_limit_hangs() -> None:
    observed = App("shop").observed(Settings(loop_limit=1.0))
    seen: list[Any] = []

    def look() -> None:
        for _ in range(1_000):
            if (answer := observed.answer("/livez"))[0] != 200:
                seen.append(answer)
                return
            time.sleep(0.02)

    with observed.served():
        threading.Thread(target=look, daemon=True).start()
        _hold_until(seen)
        await asyncio.sleep(0)
    assert seen, "livez says that all is well although the loop is held"
    status, body = body_of(seen[0])
    assert (status, body["status"]) == (503, "hangs")
    [reason] = body["reasons"]
    assert re.fullmatch(r"the event loop has been held for [1-9]\d* s", reason)
