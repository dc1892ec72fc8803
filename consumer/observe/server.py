"""The health port: HTTP from threads of its own, so that a held event loop is seen and can be told."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from consumer.errors import SettingsError
from consumer.observe.health import Told

__all__ = ["serving"]

_log = logging.getLogger("consumer.health")

AT_ONCE = 16
"""Connections that are answered at once; further ones are closed."""

PATIENCE = 5.0
"""Seconds that a client has for its request."""


@contextmanager
def serving(answer: Callable[[str], Told], host: str, port: int) -> Iterator[int]:
    """Serve `answer` for as long as the block lasts.

    Args:
        answer: status, content type and body of a path; called by threads of the server.
        host, port: where; port 0 takes a free one.

    Yields:
        The port.

    Raises:
        SettingsError: nobody can listen there.
    """
    try:
        server = _Server(host, port, answer)
    except OSError as fault:
        raise SettingsError(
            f"health_port = {port}: cannot listen on {host}:{port}: {fault.strerror or fault}; "
            "choose another port, or 0 for none"
        ) from None
    taken = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    _log.info("health and metrics on http://%s:%d", shown, taken)
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that is slow must not hold the end of the process
    request_queue_size = 64

    def __init__(self, host: str, port: int, answer: Callable[[str], Told]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__((host, port), _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - see socketserver
        _log.debug("a health request of %s was not answered", client_address, exc_info=True)


class _Request(BaseHTTPRequestHandler):
    timeout = PATIENCE
    server: _Server
    server_version = "consumer"
    sys_version = ""

    def do_GET(self) -> None:
        self._reply(body=True)

    def do_HEAD(self) -> None:
        self._reply(body=False)

    def _reply(self, *, body: bool) -> None:
        status, kind, content = self.server.answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: an orchestrator asks every few seconds."""
