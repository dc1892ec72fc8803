"""What people read of a PostgreSQL that hangs up: nothing of the driver's insides."""

from __future__ import annotations

import asyncpg
import pytest

from consumer.errors import AccessRefused, SettingsError, StoreUnavailable, WritesRefused
from consumer.stores.postgres.faults import group_fault, is_lost, store_fault

LOST = [
    asyncpg.InternalClientError("got result for unknown protocol state: unexpected connection_lost() call"),
    ConnectionError("unexpected connection_lost() call"),
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: type(fault).__name__)
def test_a_server_that_hangs_up_is_a_lost_connection(fault: Exception) -> None:
    assert is_lost(fault)
    for told in (store_fault(fault), group_fault(fault, closed=False)):
        assert isinstance(told, StoreUnavailable)
        assert str(told) == "PostgreSQL: the connection was lost"


@pytest.mark.parametrize(
    "fault",
    [
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.DiskFullError("could not extend file: No space left on device"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_server_that_takes_no_write_is_told_from_one_that_is_away(fault: Exception) -> None:
    assert type(store_fault(fault)) is WritesRefused


def test_a_permission_that_is_missing_is_a_setting_and_may_be_given_back() -> None:
    told = store_fault(asyncpg.InsufficientPrivilegeError("permission denied for table consumer_inbox"))
    assert type(told) is AccessRefused
    assert isinstance(told, SettingsError), "exit code 78 for whoever starts with it"
    assert isinstance(told, WritesRefused), "waited for by whom it happens to"
