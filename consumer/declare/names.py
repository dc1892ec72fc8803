"""The alphabets of names: topics, handlers, tenants."""

from __future__ import annotations

import re

from consumer.rules.keys import BadKey

__all__ = ["LONGEST_NAME", "check_topic", "checked_tenant", "name_fault"]

LONGEST_NAME = 200
"""Characters of the longest handler name and topic (Kafka allows 249 for a topic)."""

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LONGEST_TENANT = 64


def check_topic(topic: object) -> None:
    """Refuse a topic that Kafka would refuse, on every broker: a program must not break when it moves to Kafka.

    Args:
        topic: letters, digits, `.`, `_` and `-`, 1 to 200 of them, and neither `.` nor `..`.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
        raise ValueError(
            f"{topic!r} is no topic: 1 to {LONGEST_NAME} letters, digits, '.', '_' and '-' are (Kafka's alphabet)"
        )


def name_fault(name: object) -> str | None:
    """Return why `name` cannot name a handler, or `None`: 1 to 200 printable characters, no blank at either end."""
    if not isinstance(name, str):
        return f"name={name!r} is not text"
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"name= has {len(name)} characters; 1 to {LONGEST_NAME} are allowed"
    if not name.isprintable() or name != name.strip():
        return f"name={name!r} has characters that cannot be printed, or a blank at an end"
    return None


def checked_tenant(tenant: object) -> str:
    """Return the tenant as a tenant rule yielded it; `None` and the empty text are `public`.

    Args:
        tenant: text or bytes, printable ASCII, at most 64 characters.

    Raises:
        BadKey: it is something else.
    """
    if tenant is None or tenant in ("", b""):
        return "public"
    text = tenant.decode("latin-1") if isinstance(tenant, bytes) else tenant
    if not isinstance(text, str):
        raise BadKey(f"tenant: must be text or bytes, not {type(tenant).__name__}")
    if len(text) > _LONGEST_TENANT or not text.isascii() or not text.isprintable():
        raise BadKey(f"tenant: must be 1 to {_LONGEST_TENANT} printable ASCII characters")
    return text
