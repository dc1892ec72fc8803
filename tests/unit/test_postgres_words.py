"""What people read of a PostgreSQL that hangs up: nothing of the driver's insides."""

from __future__ import annotations

import asyncpg
import pytest

from consumer.errors import StoreUnavailable
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
