"""A handler's own table, and groups that are given back whatever a case does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from consumer.errors import GroupFault
from consumer.ports.inbox import Group
from consumer.testing.contract.samples import Process

__all__ = ["INSERT", "faulted", "finish", "group", "ledger", "make_ledger"]

INSERT = "insert into contract_ledger (name, amount) values ($1, $2)"

_CHILD = (
    "create table if not exists contract_child"
    " (parent bigint references contract_parent (id) deferrable initially deferred)"
)
_OWN = (
    "create table if not exists contract_ledger (name text, amount bigint, note text)",
    "create table if not exists contract_parent (id bigint primary key)",
    _CHILD,
    "delete from contract_ledger",
    "delete from contract_child",
    "delete from contract_parent",
)
"""Valid in every dialect; the last of them make each case start with empty tables."""


async def make_ledger(here: Process) -> None:
    """Make the application's own tables, empty."""
    await here.store.migrate(_OWN)


@contextlib.asynccontextmanager
async def group(here: Process) -> AsyncIterator[Group]:
    """Open a group; a case that fails inside leaves no transaction behind."""
    groups = here.store.groups
    assert groups is not None, "a store with transactions has groups"
    opened = await groups.open()
    try:
        yield opened
    except BaseException:
        await opened.rollback()
        raise


async def finish(opened: Group) -> None:
    """Open the gate and commit."""
    await opened.seal()
    await opened.commit()


async def faulted(opened: Group) -> bool:
    """Try to finish; return whether the group faulted, which is then rolled back."""
    try:
        await finish(opened)
    except GroupFault:
        await opened.rollback()
        return True
    return False


async def ledger(here: Process) -> list[tuple[str, int]]:
    """Return the committed rows of the ledger, by name."""
    async with group(here) as opened:
        await opened.claim([])
        rows = await opened.fetch("select name, amount from contract_ledger order by name", [])
        await opened.rollback()
    return [(row[0], row[1]) for row in rows]
