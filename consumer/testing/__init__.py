"""What ships for tests: `Harness` for users' handlers, and the contract suite that every store passes (`.contract`)."""

from consumer.testing.harness import Harness, Story

__all__ = ["Harness", "Story"]
