"""The lock files of SQLite's workers, where a commit fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from consumer.errors import StoreUnavailable
from consumer.ports.store import Store
from consumer.stores import open_store

REFUSING = """
create table none (id integer primary key);
create table wants (id integer references none deferrable initially deferred);
create trigger refusing after insert on consumer_workers begin insert into wants values (7); end;
"""
"""The COMMIT fails, and nothing before it."""


async def test_a_worker_that_was_not_committed_leaves_no_lock(tmp_path: Path) -> None:
    """Its number is given to the next one, in this process or another.

    Mutant: the sign of life stays locked (then no worker can be made while this process lives).
    """
    path = tmp_path / "shop.db"
    here, there = (open_store(f"sqlite:///{path}", "shop") for _ in range(2))
    await here.open(check=False)
    await here.migrate()
    await there.open()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(REFUSING)
    with pytest.raises(StoreUnavailable, match="FOREIGN KEY"):
        await here.workers.open(5, "here")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("drop trigger refusing")
    assert [await _number(there), await _number(here)] == [1, 2]
    await here.close()
    await there.close()


async def _number(store: Store) -> int | str:
    try:
        return await store.workers.open(5, "a later one")
    except StoreUnavailable as fault:
        return str(fault)
