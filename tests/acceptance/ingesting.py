"""`consumer ingest` of the reference application as a process, and payments sent to it over raw sockets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.acceptance.shop import Shop
from tests.http.raw import Reply, connected
from tests.http.serverkit import HOST

__all__ = ["STANDARD", "STRIPE", "Ingest", "ask", "pay"]

STRIPE = "whsec_of-stripe-these-are-plain-text"
STANDARD = "whsec_YSBzZWNyZXQgb2YgdHdlbnR5LWZvdXIgYg=="
PAYMENT = {"account": "a-1", "amount": 500, "currency": "EUR"}


class Ingest:
    """One process; `with` ends it."""

    def __init__(self, shop: Shop, *arguments: str, verb: str = "ingest") -> None:
        self._log = Path(shop.folder / f"ingest-{time.monotonic_ns()}.log")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "consumer", verb, shop.app, *arguments],
                env=shop.environment | {"STRIPE_WEBHOOK_SECRET": STRIPE, "STANDARD_WEBHOOK_SECRET": STANDARD},
                cwd=shop.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.ready = ""
        self.port = 0

    @property
    def log(self) -> str:
        return self._log.read_text()

    def await_ready(self) -> Ingest:
        """Wait for the line; where it names an address, that is the port."""
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        if not self.ready.startswith("ready"):
            self.__exit__()
            raise AssertionError(f"{self.ready!r}, exit {self.process.returncode}\n{self.log}")
        if "http://" in self.ready:
            self.port = int(self.ready.partition("http://")[2].partition(",")[0].rpartition(":")[2])
        return self

    def terminate(self, timeout: float = 40) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def rss(self) -> int:
        """Bytes of memory that it has now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


async def ask(port: int, path: str, host: str = HOST) -> Reply:
    """One GET."""
    async with connected(host, port) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return await wire.reply()


async def pay(port: int, key: str, host: str = HOST, **other: object) -> Reply:
    """One payment, on a connection of its own."""
    async with connected(host, port) as wire:
        wire.send(payment(key, **other))
        return await wire.reply()


def payment(key: str, **other: object) -> bytes:
    """The request."""
    body = json.dumps(PAYMENT | other).encode()
    head = (
        f"POST /payments HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
