"""The queries that are asked all the time use their index, whatever the inbox holds."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from consumer.entry import State
from consumer.stores.sqlite import SqliteStore, arrivals, claims, outbox, settles, workers


@pytest.fixture
async def connection(tmp_path):
    path = tmp_path / "shop.db"
    store = SqliteStore(str(path), "shop")
    await store.migrate()
    await store.close()
    with contextlib.closing(sqlite3.connect(path)) as made:
        yield made


def plan(connection, sql, values):
    return [row[3] for row in connection.execute(f"explain query plan {sql}", values)]


def test_due_walks_the_index_in_order(connection):
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    arrivals.due_entries(connection, "shop", ["pay"], limit=10, at=1.0)
    connection.set_trace_callback(None)
    assert plan(connection, seen[0], ()) == [
        "SEARCH consumer_inbox USING INDEX consumer_inbox_due (app=? AND handler=? AND due_at>? AND due_at<?)"
    ]


@pytest.mark.parametrize(
    ("sql", "values", "index"),
    [
        (claims._SEE, (b"",), "sqlite_autoindex_consumer_inbox_1"),
        (settles._COMPLETE, (b"", b"", 1), "sqlite_autoindex_consumer_inbox_1"),
        (workers._ORPHANS, ("shop", 10), "consumer_inbox_running"),
        (workers._UNCLEAN, ("shop",), "consumer_inbox_running"),
    ],
)
def test_an_index_is_used(connection, sql, values, index):
    assert any(index in line for line in plan(connection, sql, values))
    assert "SCAN consumer_inbox" not in plan(connection, sql, values)


def test_what_stops_an_ordering_key_is_found_by_index(connection):
    lines = plan(connection, outbox._TAKE, {"app": "shop", "at": 1.0, "limit": 10})
    assert any("consumer_outbox_parked" in line for line in lines)
    assert any("consumer_outbox_due" in line for line in lines)


def test_states_in_the_texts_are_the_stored_numbers():
    """They are written into the statements: a renumbered state would silently mean another one."""
    assert [int(state) for state in State] == [0, 1, 2, 3, 4, 5, 6]
