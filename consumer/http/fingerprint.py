"""What makes two requests of one key the same. Frozen by golden vectors (`tests/http/test_middleware_values.py`)."""

from __future__ import annotations

import hashlib

__all__ = ["fingerprint"]

_VERSION = b"http-1"
"""Another way to compute it needs another version, and a time in which both are understood: a retry that is under way
during a deploy must not be told that its payload has changed."""


def fingerprint(method: str, path: str, query: bytes, body: bytes) -> bytes:
    """Return 16 bytes: SHA-256 over the version and the four parts, each with its length before it, its first half.

    Header fields are no part of it: a proxy adds some, and a tracing client sends new ones with every retry.

    Args:
        method: as sent.
        path: as routed, decoded, without the prefix that the application is mounted under.
        query: the raw query string.
        body: the raw body.
    """
    parts = (_VERSION, method.encode(), path.encode("utf-8", "surrogatepass"), query, body)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()[:16]
