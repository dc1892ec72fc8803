"""`Hmac`: a provider made of arguments, and the arguments that do not fit together."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.errors import SettingsError
from consumer.webhooks import GitLab, Hmac, Reason, Refused, Verified

from .samples import KEY, NOW, URL, accepted, b64, digest, given, hexed, mac, post, seconds

ARGUMENTS: dict[str, Any] = {"name": "acme", "secret": given(KEY), "header": "X-Acme-Signature"}


def test_everything_signed():
    signed = "{method}|{url}|{id}|{timestamp}|{body}"
    provider = Hmac(
        **ARGUMENTS, signed=signed, encoding="base64", algorithm="sha512", timestamp_header="X-Acme-Time",
        timestamp_unit="ms", id_header="X-Acme-Id", url=URL, keeps=("X-Acme-Type",), retry_horizon=60,
    )  # fmt: skip
    stamp = str(int(NOW * 1000)).encode()
    content = b"POST|" + URL.encode() + b"|e1|" + stamp + b"|{}"
    headers = {"x_acme_time": stamp, "x_acme_id": b"e1", "x_acme_type": b"t"}
    request = post(b"{}", x_acme_signature=b64(mac(content, KEY, "sha512")), **headers)
    verdict = provider.verify(request, NOW)
    assert isinstance(verdict, Verified), verdict
    assert (verdict.event_id, verdict.id_signed, verdict.guard, verdict.timestamp) == ("e1", True, None, NOW)
    assert ("x-acme-type", b"t") in verdict.headers
    assert (provider.name, provider.retry_horizon) == ("acme", 60)


def test_an_unsigned_id_has_a_guard_and_a_field_is_signed_with_the_body():
    request = post(b'{"data":{"id":7}}', x_acme_signature=hexed(mac(b'{"data":{"id":7}}')), x_acme_id=b"e1")
    by_header = accepted(Hmac(**ARGUMENTS, id_header="x-acme-id"), request)
    assert (by_header.event_id, by_header.id_signed, by_header.guard) == ("e1", False, digest(request.body))
    by_field = accepted(Hmac(**ARGUMENTS, id_field="data.id"), request)
    assert (by_field.event_id, by_field.id_signed, by_field.guard) == ("7", True, None)


def test_an_id_may_hold_no_border_of_its_template():
    provider = Hmac(
        **ARGUMENTS, signed="{timestamp}:{id}/{body}", timestamp_header="x-time", id_header="x-id"
    )
    for event_id, good in ((b"e1", True), (b"e:1", False), (b"e/1", False), (b"e.1", True)):
        content = seconds(NOW) + b":" + event_id + b"/{}"
        request = post(b"{}", x_acme_signature=hexed(mac(content)), x_time=seconds(NOW), x_id=event_id)
        verdict = provider.verify(request, NOW)
        assert isinstance(verdict, Verified) is good
        if isinstance(verdict, Refused):
            assert verdict.reason is Reason.MALFORMED


def test_a_prefix_must_be_there():
    verdict = Hmac(**ARGUMENTS, prefix="v1=").verify(post(b"", x_acme_signature=hexed(mac(b""))), NOW)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"name": "Acme Inc"}, "name="),
        ({"header": "x acme"}, "no header"),
        ({"header": "Authorization"}, "credentials"),
        ({"keeps": ("Cookie",)}, "credentials"),
        ({"signed": "{bdy}"}, "none of"),
        ({"signed": "{body!r}"}, "none of"),
        ({"signed": "{body"}, "signed="),
        ({"signed": "constant"}, "must be signed"),
        ({"signed": "{params}"}, "must be signed"),
        ({"signed": "{timestamp}.{body}"}, "nothing says where"),
        ({"signed": "{id}.{body}", "id_field": "id"}, "nothing says where"),
        ({"signed": "{url}{body}"}, "nothing says where"),
        ({"signed": "{id}{body}", "id_header": "x-id"}, "touches"),
        ({"signed": "{body}{id}", "id_header": "x-id"}, "touches"),
        ({"timestamp_header": "x-time"}, "unsigned timestamp"),
        ({"id_header": "x-id", "id_field": "id"}, "not both"),
        ({"tolerance": 0}, "tolerance"),
        ({"url": "nowhere"}, "url="),
    ],
)
def test_what_does_not_fit_together_is_refused(more, message):
    with pytest.raises(SettingsError, match=message):
        Hmac(**{**ARGUMENTS, **more})


def test_gitlab_wants_one_of_its_two():
    with pytest.raises(SettingsError, match="either"):
        GitLab()
    with pytest.raises(SettingsError, match="either"):
        GitLab(secret=given(KEY), signing_token=given(KEY))
