"""Published vectors, through the whole of `verify`."""

from __future__ import annotations

import pytest

from consumer.webhooks import Reason, Refused, StandardWebhooks, Verified

from .samples import given, post, with_body
from .vectors import PUBLIC, SECRET, STANDARD_BODY, STANDARD_ID, V1, V1A, VECTORS

BOTH = {"webhook_id": STANDARD_ID, "webhook_timestamp": b"1614265330"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_a_published_signature_is_accepted(vector):
    verdict = vector.provider.verify(vector.request, vector.now)
    assert isinstance(verdict, Verified), verdict


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_and_not_for_another_body(vector):
    verdict = vector.provider.verify(with_body(vector.request, vector.request.body + b"&x=1"), vector.now)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MISMATCH


def test_the_body_that_is_no_batch_is_kept_as_one_event_without_a_name():
    vector = next(vector for vector in VECTORS if vector.name == "hubspot v3")
    verdict = vector.provider.verify(vector.request, vector.now)
    assert isinstance(verdict, Verified)
    assert [item.value for item in verdict.items] == [vector.request.body]
    assert verdict.event_id is None
    assert verdict.guard is not None


@pytest.mark.parametrize(
    ("signatures", "secrets", "index"),
    [
        (V1 + b" " + V1A, (SECRET,), 0),
        (V1A + b" " + V1, (SECRET,), 0),
        (V1 + b" " + V1A, (PUBLIC,), 0),
        (b"v2,AAAA v1,AAAA " + V1, (SECRET,), 0),
        (V1, (PUBLIC, SECRET), 1),
        (V1A, (SECRET, PUBLIC), 1),
        (b"v1,a,b v1  x " + V1, (SECRET,), 0),
        (V1, (SECRET.removeprefix("whsec_"),), 0),
    ],
)
def test_any_signature_of_a_list_may_be_right_for_any_secret(signatures, secrets, index):
    provider = StandardWebhooks(secret=given(*secrets))
    request = post(STANDARD_BODY, webhook_signature=signatures, **BOTH)
    verdict = provider.verify(request, 1_614_265_330)
    assert isinstance(verdict, Verified), verdict
    assert verdict.secret_index == index


@pytest.mark.parametrize(
    "signatures",
    [
        V1A.replace(b"v1a", b"v1"),
        V1.replace(b"v1", b"v1a"),
        V1.replace(b"v1", b"v2"),
        V1.replace(b"v1,", b"V1,"),
    ],
)
def test_a_signature_under_another_version_counts_for_nothing(signatures):
    provider = StandardWebhooks(secret=given(SECRET, PUBLIC))
    verdict = provider.verify(post(STANDARD_BODY, webhook_signature=signatures, **BOTH), 1_614_265_330)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MISMATCH
