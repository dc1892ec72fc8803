"""No request raises: whatever the headers, the query and the body hold, the answer is a value."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.webhooks import Refused, Reply, Request, Verified, receive

from .samples import NOW, SAMPLES

METHODS = st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "PUT", "\udc80"])
NAMES = sorted({name for sample in SAMPLES.values() for name, _ in sample.sign(sample.body).headers})
PROVIDERS = {name: sample.provider() for name, sample in SAMPLES.items()}
SETTINGS = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", SAMPLES)
@SETTINGS
@given(data=st.data())
def test_a_request_of_any_bytes_is_refused(name, data):
    headers = data.draw(
        st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(), st.binary(max_size=200)), max_size=9)
    )
    request = Request(
        method=data.draw(METHODS),
        query=data.draw(st.binary(max_size=200)),
        headers=headers,
        body=data.draw(st.binary(max_size=300)),
    )
    assert isinstance(receive(PROVIDERS[name], request, NOW), Refused | Reply)


@pytest.mark.parametrize("name", SAMPLES)
@SETTINGS
@given(data=st.data())
def test_an_authentic_request_with_one_value_replaced_raises_nothing(name, data):
    good = SAMPLES[name].sign(SAMPLES[name].body)
    place = data.draw(st.integers(0, len(good.headers)))
    value = data.draw(st.binary(max_size=200))
    headers = [pair if at != place else (pair[0], value) for at, pair in enumerate(good.headers)]
    body = value if place == len(good.headers) else good.body
    verdict = receive(PROVIDERS[name], Request(headers=headers, body=body), NOW)
    assert isinstance(verdict, Verified | Refused | Reply)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in {"twilio", "mailgun", "linear"}])
@SETTINGS
@given(body=st.binary(max_size=300))
def test_an_authentic_body_of_any_bytes_is_verified(name, body):
    verdict = PROVIDERS[name].verify(SAMPLES[name].sign(body), NOW)
    assert isinstance(verdict, Verified)
    assert verdict.items
