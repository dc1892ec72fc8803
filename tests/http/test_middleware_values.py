"""The middleware's values: routes, policy, fingerprint, the stored form, the age of a key; and every refused argument."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from consumer import App, RegistrationError
from consumer.http import Idempotency, Policy, single_tenant
from consumer.http.fingerprint import fingerprint
from consumer.http.late import age_of
from consumer.http.recorded import Recorded, replay_of
from consumer.http.routing import Rules, path_of
from tests.http.guardkit import Bank


def guard(**given: Any) -> Idempotency:
    chosen: dict[str, Any] = {"app": App("shop"), "tenant": single_tenant} | given
    return Idempotency(Bank(), **chosen)


# --------------------------------------------------------------------------------------------------------- fingerprint


@pytest.mark.parametrize(
    ("parts", "hexed"),
    [
        (("POST", "/payments", b"", b"{}"), "1c48a46922a03beab9f2001df191adf2"),
        (("POST", "/payments", b"a=1", b""), "24fecf55d90ee8a31fbc943fa052f8ab"),
        (("PATCH", "/päivää/1", b"", b"\x00\xff"), "54a45a1f15d060215c3c1c36026b28fc"),
    ],
)
def test_fingerprints_never_change(parts, hexed):
    assert fingerprint(*parts).hex() == hexed


def test_no_part_can_be_moved_into_its_neighbour():
    assert len({fingerprint("POST", "/a", b"bc", b""), fingerprint("POST", "/a", b"b", b"c")}) == 2
    assert len({fingerprint("POST", "/ab", b"c", b""), fingerprint("POST", "/a", b"bc", b"")}) == 2


# -------------------------------------------------------------------------------------------------------------- routes


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/payments", "POST /payments"),
        ("POST", "/payments/", "POST *"),
        ("POST", "/a/7", "POST /a/{id:int}"),
        ("POST", "/a/x", "POST /a/{id}"),
        ("POST", "/a/x/y", "POST *"),
        ("POST", "/files/x/y.txt", "POST /files/{rest:path}"),
        ("POST", "/a.b", "POST /a.b"),
        ("POST", "/aXb", "POST *"),
        ("POST", "/open", None),
        ("PUT", "/payments", None),
        ("DELETE", "/x", "DELETE *"),
    ],
)
def test_a_request_finds_its_route(method, path, name):
    rules = Rules(
        {
            "DELETE *": "required",
            "POST /payments": "required",
            "POST /a/{id:int}": "required",
            "POST /a/{id}": "required",
            "POST /files/{rest:path}": "required",
            "POST /a.b": "required",
            "POST /open": "off",
        }
    )
    found = rules.find(method, path)
    assert (found and found[0].name) == name


@pytest.mark.parametrize(
    ("path", "root", "routed"),
    [
        ("/v1/pay", "/v1", "/pay"),
        ("/v1", "/v1", "/"),
        ("/v10/pay", "/v1", "/v10/pay"),
        ("/pay", "", "/pay"),
        ("/pay", "/v1/", "/pay"),
    ],
)
def test_the_routed_path(path, root, routed):
    assert path_of({"path": path, "root_path": root}) == routed


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"routes": {"payments": "required"}}, "begins with no method in capitals"),
        ({"routes": {"post /payments": "required"}}, "begins with no method in capitals"),
        ({"routes": {"POST payments": "required"}}, "the path starts with a slash"),
        ({"routes": {"POST /payments": "must"}}, "there are 'required', 'optional', 'off'"),
        ({"routes": {"POST /{a}/{a}": "required"}}, "two parameters {a}"),
        ({"routes": {"POST /{a": "required"}}, "a brace that is no parameter"),
        ({"routes": {"POST /" + "x" * 200: "required"}}, "1 to 200 are allowed"),
        ({"app": object()}, "is no App"),
        ({"tenant": "public"}, "is no function of the request"),
        ({"tenant": lambda: "a"}, "is no function of the request"),
        ({"wait": 61}, "wait=61: must be from 0 to 60 seconds"),
        ({"wait": -1}, "wait=-1"),
        ({"timeout": 0}, "timeout=0: must be more than 0 seconds"),
        ({"retention": 5}, "retention=5: write a timedelta"),
        ({"retention": timedelta(0)}, "write a timedelta"),
        ({"largest_body": 0}, "largest_body=0"),
    ],
)
def test_a_wrong_argument_is_refused(given, text):
    with pytest.raises(RegistrationError) as refused:
        guard(**given)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


# -------------------------------------------------------------------------------------------------------------- policy


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"unstored": {200}}, "200 is no status of a failure"),
        ({"doubtful": {404}}, "404 is no status of a server's failure"),
        ({"headers": ["Set-Cookie"]}, "'set-cookie' is never stored"),
        ({"headers": ["x-a", "Authorization"]}, "'authorization' is never stored"),
        ({"headers": ["Transfer-Encoding"]}, "'transfer-encoding' is never stored"),
        ({"largest": -1}, "largest=-1"),
    ],
)
def test_a_policy_that_would_hurt_is_refused(given, text):
    with pytest.raises(RegistrationError, match=text):
        Policy(**given)


def test_a_policy_keeps_what_it_is_told_to():
    policy = Policy(unstored={500}, headers=["X-Cost"], largest=10)
    assert [policy.stores(status) for status in (201, 401, 500)] == [True, True, False]
    pairs = ((b"x-cost", b"7"), (b"etag", b"1"), (b"set-cookie", b"a"), (b"x-other", b"b"))
    assert policy.result_headers(pairs) == pairs[:2]
    assert policy.too_large(((b"content-length", b"11"),))
    assert not policy.too_large(((b"content-length", b"10"),))
    assert policy.too_large(((b"content-type", b"Text/Event-Stream;charset=utf-8"),))


# ------------------------------------------------------------------------------------------------------ the stored form


def test_the_stored_form_is_read_by_later_versions():
    """Stored once, it is read for as long as keys are remembered: only fields with a default may be added."""
    stored = b'{"status":201,"headers":[["location","/p/1"]],"text":"{}"}'
    answer = replay_of(stored)
    assert (answer.status, answer.body) == (201, b"{}")
    assert answer.headers == ((b"location", b"/p/1"), (b"idempotent-replayed", b"true"))
    assert replay_of(b'{"status":200,"body":"AP8="}').body == b"\x00\xff"


@pytest.mark.parametrize("result", [None, b"7", b'{"payment":1}', b"no json", b'{"status":200,"stub":true}'])
def test_what_is_no_response_is_not_replayed_as_one(result):
    answer = replay_of(result)
    assert answer.status == 409
    assert b'"code":"response-not-stored"' in answer.body


@pytest.mark.parametrize("body", [b"", b"text", "ä\u0000\u2028".encode(), b"\xff\x00"])
def test_a_response_comes_back_byte_for_byte(body):
    recorded = Recorded.of(200, ((b"x-a", b"\xe9 ok"),), body)
    answer = recorded.answer()
    assert (answer.status, answer.headers, answer.body) == (200, ((b"x-a", b"\xe9 ok"),), body)


# ------------------------------------------------------------------------------------------------------------- its age


@pytest.mark.parametrize(
    ("key", "age"),
    [
        ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 100.0),  # the example of RFC 9562, appendix A.6
        ("017F22E2-79B0-7CC3-98C4-DC0C0C07398F", 100.0),
        ("919108f7-52d1-4320-9bac-f847db4148a8", None),  # version 4
        ("017f22e279b07cc398c4dc0c0c07398f", None),
        ("k1", None),
    ],
)
def test_the_age_of_a_key(key, age):
    assert age_of(key, 1645557742 + 100.0) == age
