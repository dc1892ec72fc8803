"""What a store is refused for before anything is consumed; nothing connects here."""

from __future__ import annotations

import pytest

from consumer import AtMostOnce, Handlers, Key, Transactional
from consumer.declare.handler import Handler
from consumer.errors import SettingsError
from consumer.stores import open_store
from consumer.stores.postgres import IDLE
from consumer.worker.wiring import LONGEST_POSTGRES_TIMEOUT, check_store


def handlers(mode: AtMostOnce | Transactional, timeout: float) -> tuple[Handler, ...]:
    declared = Handlers()

    @declared.on("payments", key=Key.record(), mode=mode, timeout=timeout)
    async def pay(payment: bytes) -> None: ...

    return declared.declared


@pytest.mark.parametrize(
    ("url", "longest", "says"),
    [
        (
            "postgresql://user:hunter2@host/db",
            60,
            r"payments is Transactional with timeout=90, and PostgreSQL .*; use timeout=60 or less, or wait .* of another mode",
        ),
        (
            "sqlite:///shop.db",
            30,
            r"payments is Transactional with timeout=90, and SQLite has one writer; use timeout=30 or less",
        ),
    ],
    ids=["postgres", "sqlite"],
)
async def test_a_time_out_that_the_store_would_cut_short_is_refused(
    url: str, longest: float, says: str
) -> None:
    """Mutant: the server's limit is not compared."""
    store = open_store(url, "shop")
    try:
        with pytest.raises(SettingsError, match=says):
            check_store(store, url, handlers(Transactional(), 90))
        with pytest.raises(SettingsError):
            check_store(store, url, handlers(Transactional(), longest + 0.1))
        check_store(store, url, handlers(Transactional(), longest))
        check_store(store, url, handlers(AtMostOnce(), 3600))  # waits outside of any transaction
    finally:
        await store.close()


def test_the_limit_is_the_one_that_postgres_is_told() -> None:
    assert LONGEST_POSTGRES_TIMEOUT == IDLE
