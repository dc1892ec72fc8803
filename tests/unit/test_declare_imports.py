"""`import consumer` is quick because it brings in no driver, no server and no command line."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    *("aiokafka", "asyncpg", "redis", "sqlite3", "cryptography"),
    *("starlette", "uvicorn", "h11", "httpx", "http.server"),
    *("click", "rich", "opentelemetry", "prometheus_client"),
}

PROGRAM = """
import sys
import consumer
import json
print(json.dumps([sorted(sys.modules), sorted(consumer.__all__), sorted(n for n in consumer.__all__ if not hasattr(consumer, n))]))
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


def imported() -> tuple[set[str], set[str], set[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    modules, public, missing = json.loads(done.stdout)
    return set(modules), set(public), set(missing)


def test_no_driver_server_or_command_line_is_imported():
    modules, _, _ = imported()
    assert "consumer.declare.handlers" in modules
    assert modules & HEAVY == set()


def test_the_public_names_are_these():
    _, public, missing = imported()
    assert public == PUBLIC
    assert missing == set()
