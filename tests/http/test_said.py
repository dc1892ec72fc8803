"""What webhooks land and nobody will run is said in the log, once, with the fields of a delivery's end and without the key."""

from __future__ import annotations

import hashlib
import logging

import pytest

from tests.http.signing import as_bytes, intent, standard, stripe_signed
from tests.http.signing import requested as payment

STRIPE, STANDARD = "/hooks/stripe", "/hooks/standard"


@pytest.fixture(autouse=True)
def loud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "consumer.ingest")


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "decode: "), (as_bytes(intent("x" * 256)), "key: ")],
    ids=["half", "over-long"],
)
async def test_a_dead_letter_is_a_warning(site, caplog, body, reason):
    """Mutant: the ingest says nothing of its dead letters."""
    for _ in range(2):
        assert (await site.post(STRIPE, None, body, stripe_signed(body))).status_code == 200
    [entry] = await site.entries()
    said = [record for record in caplog.records if record.name == "consumer.ingest"]
    assert len(said) == 1
    record = said[0]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"payments.requested: dead letter: {reason}")
    assert record.fields == {
        "handler": "payments.requested",
        "tenant": "public",
        "key_hash": hashlib.sha256(entry.key).hexdigest()[:8],
        "attempt": 0,
        "state": "dead",
    }


async def test_a_conflict_is_a_warning_and_names_no_key(site, caplog):
    first, other = as_bytes(payment()), as_bytes(payment(amount=7))
    for body in (first, first, other):
        assert (await site.post(STANDARD, None, body, standard(body))).status_code == 200
    said = [record for record in caplog.records if record.name == "consumer.ingest"]
    assert len(said) == 1
    record = said[0]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("payments.requested: conflict, a dead letter: ")
    assert "p-1" not in record.getMessage()
    assert record.fields["key_hash"] == hashlib.sha256(b"p-1").hexdigest()[:8]
