"""Handshakes: answered for who may ask, in the provider's words, and never an oracle for anything else."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from consumer.errors import SettingsError
from consumer.webhooks import CloudEvents, Meta, Refused, Reply, Request, Verified, Zoom, receive

from .samples import KEY, NOW, SAMPLES, changed, given, hexed, mac


def ask(name, body):
    return receive(SAMPLES[name].provider(), SAMPLES[name].sign(body), NOW)


def test_slack_hears_its_challenge():
    body = b'{"token":"x","challenge":"3eZbrw1aB","type":"url_verification"}'
    reply = ask("slack", body)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (200, b"3eZbrw1aB")
    unsigned = changed(SAMPLES["slack"].sign(body), "x-slack-signature", b"v0=" + b"0" * 64)
    assert isinstance(receive(SAMPLES["slack"].provider(), unsigned, NOW), Refused)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"event_callback","challenge":"x"}',
        b'{"type":"url_verification"}',
        b'{"type":"url_verification","challenge":"' + b"x" * 2000 + b'"}',
        b"payload=1",
    ],
)
def test_everything_else_of_slack_lands(body):
    assert isinstance(ask("slack", body), Verified)


def test_zoom_hears_the_hmac_of_its_token():
    reply = ask(
        "zoom", b'{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}'
    )
    assert isinstance(reply, Reply)
    expected = hexed(mac(b"qgg8vlvZRS6UYooatFL8Aw")).decode()
    assert json.loads(reply.body) == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": expected}


def test_zoom_answers_with_the_secret_that_matched():
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}'
    reply = receive(Zoom(secret=given("another-secret", KEY)), SAMPLES["zoom"].sign(body), NOW)
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["encryptedToken"] == hexed(mac(b"abc")).decode()


@pytest.mark.parametrize("token", ["v0:1700000000:{}", "", "a b", "a\n", "ä", "x" * 129])
def test_zoom_gets_nothing_signed_that_could_be_a_webhook(token):
    body = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": token}}).encode()
    assert isinstance(ask("zoom", body), Verified)


def test_discord_hears_its_pings():
    event_ping, interaction_ping = (
        ask("discord", b'{"version":1,"type":0}'),
        ask("discord", b'{"id":"1","type":1}'),
    )
    assert event_ping == Reply(204)
    assert isinstance(interaction_ping, Reply)
    assert (interaction_ping.status, interaction_ping.body) == (200, b'{"type":1}')
    event = ask("discord", b'{"version":1,"type":1,"event":{"type":"ENTITLEMENT_CREATE"}}')
    assert isinstance(event, Verified)
    assert event.guard is not None
    assert SAMPLES["discord"].provider().accepted == 204


@pytest.mark.parametrize("signature", [None, b"", b"zz", b"00" * 64, b"\xff"])
def test_discord_probes_and_wants_401(signature):
    probe = changed(SAMPLES["discord"].sign(b'{"type":0}'), "x-signature-ed25519", signature)
    verdict = receive(SAMPLES["discord"].provider(), probe, NOW)
    assert isinstance(verdict, Refused)
    assert verdict.status == 401


def get(query):
    return receive(
        Meta(secret=given(KEY), verify_token=given("my-token")), Request(method="GET", query=query), NOW
    )


def test_meta_hears_its_challenge():
    reply = get(b"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=my-token")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (200, b"1158201444")
    assert (b"content-type", b"text/plain") in reply.headers


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong", 401),
        (b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=", 401),
        (b"hub.mode=subscribe&hub.challenge=1", 400),
        (b"hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=my-token", 400),
        (b"hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=my-token", 400),
        (b"hub.mode=subscribe&hub.verify_token=my-token", 400),
        (b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong&hub.verify_token=my-token", 400),
        (b"hub.mode=subscribe&hub.challenge=1&hub.verify_token=%FF", 401),
        (b"\xff", 400),
        (b"", 400),
        (b"a=1&" * 17, 400),
        (b"x" * 3000, 400),
    ],
)
def test_meta_hears_nothing_else(query, status):
    verdict = get(query)
    assert isinstance(verdict, Refused)
    assert verdict.status == status


def test_metas_token_is_read_at_the_start_too():
    with pytest.raises(SettingsError, match="empty"):
        Meta(secret=given(KEY), verify_token=lambda: "").check()


def options(*origins, allowed=("eventemitter.example.com",), rate=None):
    headers = [(b"webhook-request-origin", origin) for origin in origins]
    request = Request(
        method="OPTIONS", headers=[*headers, (b"webhook-request-callback", b"https://evil.example")]
    )
    return receive(CloudEvents(secret=given(KEY), origins=allowed, rate=rate), request, NOW)


def test_cloudevents_origins_are_consented_to():
    reply = options(b"eventemitter.example.com", rate=120)
    assert isinstance(reply, Reply)
    assert dict(reply.headers) == {
        b"allow": b"POST",
        b"webhook-allowed-origin": b"eventemitter.example.com",
        b"webhook-allowed-rate": b"120",
    }
    assert dict(options(b"anybody.example", allowed=("*",)).headers)[b"webhook-allowed-rate"] == b"*"


def test_cloudevents_strangers_are_not():
    assert isinstance(options(b"other.example"), Refused)
    assert isinstance(options(), Refused)
    assert isinstance(options(b"eventemitter.example.com", b"eventemitter.example.com"), Refused)
    assert isinstance(options(b"a\r\nset-cookie: x", allowed=("*",)), Refused)
    nobody = options(b"eventemitter.example.com", allowed=())
    assert isinstance(nobody, Reply)
    assert nobody.status == 405


def test_a_method_that_no_handshake_has_answered_is_no_event():
    class AnyMethod:
        methods = ("GET", "POST")

        def greet(self, request, now):
            return None

        def verify(self, request, now):
            raise AssertionError("only a POST is an event")

    assert receive(cast("Any", AnyMethod()), Request(method="GET"), NOW) == Reply(
        405, headers=((b"allow", b"POST"),)
    )


def test_a_signature_around_cloudevents_keeps_its_own_handshake():
    provider = CloudEvents(signed_by=SAMPLES["slack"].provider())
    provider.check()
    request = SAMPLES["slack"].sign(b'{"type":"url_verification","challenge":"abc"}')
    reply = receive(provider, request, NOW)
    assert isinstance(reply, Reply)
    assert reply.body == b"abc"
    assert provider.retry_horizon == SAMPLES["slack"].provider().retry_horizon


def test_a_json_body_without_a_type_is_no_ping():
    assert isinstance(ask("discord", b'{"type":2,"id":"1"}'), Verified)
