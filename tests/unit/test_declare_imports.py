"""`import consumer` is quick and brings in no driver, no server and no command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"aiokafka", "asyncpg", "click", "redis", "rich", "sqlite3", "starlette", "uvicorn"}

PROGRAM = """
import sys, time
started = time.perf_counter()
import consumer
took = time.perf_counter() - started
import json
print(json.dumps([took, sorted(sys.modules), sorted(consumer.__all__), sorted(n for n in consumer.__all__ if not hasattr(consumer, n))]))
"""

PUBLIC = {
    "App",
    "AtLeastOnce",
    "AtMostOnce",
    "Backoff",
    "Batch",
    "BrokerUnavailable",
    "Conflict",
    "ConsumerError",
    "Context",
    "Dead",
    "Done",
    "Handlers",
    "InDoubt",
    "InFlight",
    "Item",
    "Key",
    "Message",
    "NotDone",
    "Publish",
    "RegistrationError",
    "Reject",
    "Retry",
    "Row",
    "Running",
    "SchemaMismatch",
    "Secret",
    "Settings",
    "SettingsError",
    "StoreUnavailable",
    "Transactional",
    "Tx",
    "Unknown",
}


def imported() -> tuple[float, set[str], set[str], set[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    took, modules, public, missing = json.loads(done.stdout)
    return took, set(modules), set(public), set(missing)


def test_no_driver_server_or_command_line_is_imported():
    _, modules, _, _ = imported()
    assert "consumer.declare.handlers" in modules
    assert modules & HEAVY == set()


def test_the_public_names_are_these():
    _, _, public, missing = imported()
    assert public == PUBLIC
    assert missing == set()


@pytest.mark.slow
def test_it_takes_less_than_a_tenth_of_a_second():
    # the best of several: what else this machine does must not decide
    assert min(imported()[0] for _ in range(7)) < 0.1
