"""A case: one sentence of the contract, tried on a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from consumer.ports.store import Capabilities
from consumer.testing.contract.backend import Backend

__all__ = ["Case", "Chapter"]

Steps = Callable[[Backend], Awaitable[None]]


class Case(msgspec.Struct, frozen=True):
    """One case of the suite; `str(case)` is its name, for `pytest.mark.parametrize(..., ids=str)`.

    Attributes:
        name: `chapter.what_holds`.
        needs: the flags of `Capabilities` without which the sentence says nothing.
        steps: what is done and asserted.
    """

    name: str
    needs: frozenset[str]
    steps: Steps

    def __str__(self) -> str:
        return self.name

    def applies(self, capabilities: Capabilities) -> bool:
        """Whether a store with these capabilities must pass this case."""
        return all(getattr(capabilities, flag) for flag in self.needs)

    async def run(self, backend: Backend) -> None:
        """Try the case on a fresh backend; the caller closes it.

        Raises:
            AssertionError: the store breaks the contract; the case's docstring is the sentence that it breaks.
            ValueError: the store does not declare a flag that this case needs.
        """
        if not self.applies(backend.capabilities):
            raise ValueError(f"{self.name} needs {', '.join(sorted(self.needs))}")
        await self.steps(backend)


class Chapter:
    """The cases of one module, in the order of their text.

    Args:
        name: what the cases' names begin with.
    """

    __slots__ = ("cases", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: list[Case] = []

    def case(self, *needs: str) -> Callable[[Steps], Steps]:
        """Make a case of an async function; its name is the sentence.

        Args:
            needs: flags of `Capabilities`.
        """

        def add(steps: Steps) -> Steps:
            self.add(steps.__name__, steps, *needs)
            return steps

        return add

    def add(self, name: str, steps: Steps, *needs: str) -> None:
        """Add a case that is made of data (one per row of a table)."""
        self.cases.append(Case(f"{self.name}.{name}", frozenset(needs), steps))
