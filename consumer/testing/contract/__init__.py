"""The contract suite: every sentence of `consumer.ports`, tried on a store.

It needs no test framework. With pytest a store's test module is a `Backend` and::

    @pytest.mark.parametrize("case", cases(CAPABILITIES), ids=str)
    async def test_contract(case, backend):
        await case.run(backend)

`docs/stores.md` has the whole of it.
"""

from __future__ import annotations

from consumer.ports.store import Capabilities
from consumer.testing.contract import (
    arrivals,
    claims,
    doubts,
    groups,
    handles,
    lanes,
    late,
    operator,
    outbox,
    settles,
    statements,
    states,
    takes,
    workers,
)
from consumer.testing.contract.backend import Backend
from consumer.testing.contract.case import Case, Chapter

__all__ = ["Backend", "Case", "cases"]

_CHAPTERS: tuple[Chapter, ...] = (
    handles.CHAPTER,
    claims.CHAPTER,
    settles.CHAPTER,
    late.CHAPTER,
    arrivals.CHAPTER,
    lanes.CHAPTER,
    workers.CHAPTER,
    doubts.CHAPTER,
    operator.CHAPTER,
    outbox.CHAPTER,
    groups.CHAPTER,
    takes.CHAPTER,
    statements.CHAPTER,
    states.CHAPTER,
)


def cases(capabilities: Capabilities) -> list[Case]:
    """Return the cases that a store with these capabilities must pass, in the order of reading."""
    return [case for chapter in _CHAPTERS for case in chapter.cases if case.applies(capabilities)]
