"""One request, many events: HubSpot's arrays, CloudEvents in its three modes."""

from __future__ import annotations

import json

import pytest

from consumer.declare.keyrules import Key
from consumer.errors import SettingsError
from consumer.message import Message
from consumer.webhooks import CloudEvents, Refused, Request, StandardWebhooks, Verified
from consumer.webhooks.items import MOST_ITEMS

from .samples import KEY, NOW, SAMPLES, WHSEC, accepted, changed, digest, given, with_body


def hubspot(body):
    verdict = SAMPLES["hubspot"].provider().verify(SAMPLES["hubspot"].sign(body), NOW)
    assert isinstance(verdict, Verified)
    return verdict


def test_every_event_of_a_batch_has_its_own_name():
    events = [{"eventId": n, "subscriptionId": 7, "portalId": 9, "x": "ä"} for n in range(3)]
    body = json.dumps(events).encode()
    verdict = hubspot(body)
    assert [item.event_id for item in verdict.items] == ["0:7:9", "1:7:9", "2:7:9"]
    assert [json.loads(item.value) for item in verdict.items] == events
    assert verdict.event_id is None
    assert verdict.remark is None


@pytest.mark.parametrize(
    "event",
    [
        b'{"eventId":1,"subscriptionId":2}',
        b'{"eventId":"1:2","subscriptionId":3,"portalId":4}',
        b'{"eventId":"","subscriptionId":3,"portalId":4}',
        b'{"eventId":null,"subscriptionId":3,"portalId":4}',
        b'{"eventId":true,"subscriptionId":3,"portalId":4}',
        b'"text"',
    ],
)
def test_an_event_without_a_usable_name_has_its_digest(event):
    verdict = hubspot(b'[{"eventId":1,"subscriptionId":2,"portalId":3},' + event + b"]")
    assert verdict.items[0].event_id == "1:2:3"
    assert verdict.items[1].event_id is None
    assert verdict.items[1].guard == digest(event)
    assert verdict.remark.startswith("1 of 2 events")


def test_a_batch_has_a_bound_and_an_empty_one_is_empty():
    assert hubspot(b"[]").items == ()
    full = b"[" + b",".join([b"1"] * MOST_ITEMS) + b"]"
    assert len(hubspot(full).items) == MOST_ITEMS
    over = b"[" + b",".join([b"1"] * (MOST_ITEMS + 1)) + b"]"
    assert [item.value for item in hubspot(over).items] == [over]


EVENT = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "t", "data": {"a": 1}}


def event(content_type, body, provider=None, **attributes):
    request = SAMPLES["cloudevents"].sign(body)
    request = changed(request, "content-type", content_type)
    for name, value in attributes.items():
        request = changed(request, "ce-" + name, value)
    return (provider or CloudEvents(secret=given(KEY), batched=True)).verify(request, NOW)


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json", b"Application/CloudEvents+JSON; charset=utf-8"]
)
def test_a_structured_event_is_named_by_its_body(content_type):
    body = json.dumps({**EVENT, "id": "inner"}).encode()
    verdict = event(content_type, body)
    assert verdict.event_id == "/shop inner"
    assert verdict.items[0].value == body


def test_a_batch_of_cloudevents_is_its_elements():
    body = json.dumps([EVENT, {**EVENT, "source": "/other"}, {"id": "x"}]).encode()
    verdict = event(b"application/cloudevents-batch+json", body)
    assert [item.event_id for item in verdict.items] == ["/shop e1", "/other e1", None]
    assert verdict.remark == "1 of 3 are no CloudEvents"


def test_a_batch_that_nobody_asked_for_is_415():
    verdict = event(b"application/cloudevents-batch+json", b"[]", CloudEvents(secret=given(KEY)))
    assert isinstance(verdict, Refused)
    assert verdict.status == 415


def test_a_binary_events_attributes_are_percent_encoded_utf8():
    verdict = event(b"application/json", b"{}", id=b"Euro%20%E2%82%AC%20%F0%9F%98%80")
    assert verdict.event_id == "/shop Euro € 😀"
    assert ("ce-id", b"Euro%20%E2%82%AC%20%F0%9F%98%80") in verdict.headers
    assert ("ce-type", b"t") in verdict.headers


@pytest.mark.parametrize(
    "attributes",
    [
        {"id": b"%C0%A0"},
        {"id": b"\xff"},
        {"id": b""},
        {"id": None},
        {"source": None},
        {"type": None},
        {"specversion": None},
        {"source": b"a%20b"},
        {"id": b"%00"},
        {"id": b"x" * 300},
    ],
)
def test_what_is_no_event_has_no_name(attributes):
    verdict = event(b"application/json", b"{}", **attributes)
    assert isinstance(verdict, Verified)
    assert verdict.event_id is None
    assert verdict.remark == "no CloudEvent in binary mode"


def test_the_same_id_of_two_sources_is_two_events():
    names = {event(b"text/plain", b"", source=source).event_id for source in (b"/a", b"/b", b"/a%20")}
    assert names == {"/a e1", "/b e1", None}


def test_the_key_rule_names_an_event_as_the_provider_does():
    binary = event(b"application/json", b"{}")
    message = Message("t", b"{}", binary.headers)
    assert Key.cloudevent().find({}, message) == binary.event_id
    structured = event(b"application/cloudevents+json", json.dumps(EVENT).encode())
    message = Message("t", structured.items[0].value, structured.headers)
    assert Key.cloudevent().find({}, message) == structured.event_id


def test_a_signature_around_it_vouches_for_the_body_only():
    provider = CloudEvents(signed_by=StandardWebhooks(secret=given(WHSEC)))
    body = json.dumps(EVENT).encode()
    plain = SAMPLES["standard"].sign(body)
    structured = accepted(provider, changed(plain, "content-type", b"application/cloudevents+json"))
    assert (structured.event_id, structured.id_signed, structured.guard) == ("/shop e1", True, None)
    attributes = {"ce-id": b"1", "ce-source": b"/s", "ce-type": b"t", "ce-specversion": b"1.0"}
    request = plain
    for name, value in attributes.items():
        request = changed(request, name, value)
    binary = accepted(provider, request)
    assert (binary.event_id, binary.id_signed, binary.guard) == ("/s 1", False, digest(body))
    assert isinstance(provider.verify(with_body(request, b"{}"), NOW), Refused)


def test_the_token_is_not_looked_for_in_the_query():
    request = changed(SAMPLES["cloudevents"].sign(b""), "authorization", None)
    request = Request(query=b"access_token=" + KEY.encode(), headers=request.headers)
    assert isinstance(CloudEvents(secret=given(KEY)).verify(request, NOW), Refused)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"secret": given(KEY), "signed_by": StandardWebhooks(secret=given(WHSEC))},
        {"secret": given(KEY), "rate": 0},
    ],
)
def test_what_does_not_fit_together_is_refused(arguments):
    with pytest.raises(SettingsError, match="CloudEvents"):
        CloudEvents(**arguments)


def test_cloudevents_say_accepted():
    assert CloudEvents(secret=given(KEY)).accepted == 202
    assert CloudEvents(secret=given(KEY)).greet(Request(), NOW) is None
