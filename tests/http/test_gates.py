"""What a provider says about a request is for the log: why it was refused, and what is odd about an authentic one."""

from __future__ import annotations

import hmac
import logging

import pytest

from consumer.declare.ways import Webhook, translation_of
from consumer.http.hooks import Authentic, Denied, Gate
from consumer.settings import Secret
from consumer.webhooks import Intercom
from consumer.worker.gates import gate_of

SECRET = "a-secret-of-ones-own"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Gate:
    """Of a provider whose event id is in the body."""
    monkeypatch.setenv("OWN_SECRET", SECRET)
    caplog.set_level(logging.INFO, "consumer.webhooks")
    provider = Intercom(secret=Secret.env("OWN_SECRET"))
    return gate_of(Webhook("/hooks", provider, "events", translation_of(None, bytes, {}), None))


def asked(gate: Gate, body: bytes, now: float, secret: str | None = SECRET) -> Authentic | Denied:
    headers = [(b"host", b"canary-1")]
    if secret is not None:
        signature = "sha1=" + hmac.new(secret.encode(), body, "sha1").hexdigest()
        headers.append((b"x-hub-signature", signature.encode()))
    verdict = gate({"method": "POST", "path": "/hooks", "headers": headers}, body, now)
    assert isinstance(verdict, Authentic | Denied)
    return verdict


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_flood_of_forged_requests_is_a_line_a_second_with_their_number(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Mutant: each has its line."""
    for now in (100.0, 100.2, 100.9, 101.0, 50.0):
        assert isinstance(asked(gate, b"canary-2", now, "wrong"), Denied)
    line = "webhook /hooks: 401 mismatch: no signature is right for any of Intercom's 1 secrets"
    assert said(caplog) == [line, line + " (and 2 like it before)", line]


def test_classes_are_said_beside_each_other_and_hold_no_value(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """Mutant: what was refused is not said."""
    asked(gate, b"canary-2", 100.0, "wrong")
    asked(gate, b"canary-2", 100.0, None)
    assert [line.split(": ")[1] for line in said(caplog)] == ["401 mismatch", "401 missing"]
    assert "canary" not in caplog.text


def test_what_is_odd_about_an_authentic_request_is_said(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """Mutant: a remark is dropped."""
    assert isinstance(asked(gate, b'{"id":"e-1"}', 100.0), Authentic)
    assert said(caplog) == []
    assert isinstance(asked(gate, b'{"ident":"canary"}', 100.0), Authentic)
    assert said(caplog) == ["webhook /hooks: authentic: no event id in body id"]
