"""What ships for tests: `Harness` for users' handlers, and the contract suite that every store passes (`.contract`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consumer.testing.harness import Harness, Story

__all__ = ["Harness", "Story"]


def __getattr__(name: str) -> Any:
    """Import the harness when it is asked for: the contract suite must not pull in the whole app (PEP 562)."""
    if name in __all__:
        from consumer.testing import harness  # noqa: PLC0415 - that is the point

        return getattr(harness, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
