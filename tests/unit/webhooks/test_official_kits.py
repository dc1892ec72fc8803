"""The providers' own kits sign, and ours verifies what they signed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.webhooks import Slack, StandardWebhooks, Stripe, Svix, Twilio, Verified

from .samples import KEY, NOW, URL, WHSEC, given, post, seconds

BODIES = ['{"id":"evt_1"}', "", "ä€😀", '{"a": 1}\n']


@pytest.mark.parametrize("body", BODIES)
def test_stripe(body):
    stripe = pytest.importorskip("stripe")
    header = stripe.WebhookSignature.generate_signature_header(body, KEY, timestamp=int(NOW))
    verdict = Stripe(secret=given(KEY)).verify(post(body.encode(), stripe_signature=header.encode()), NOW)
    assert isinstance(verdict, Verified), verdict


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("package", "family", "maker"),
    [("standardwebhooks", "webhook", StandardWebhooks), ("svix", "svix", Svix)],
)
def test_standard_webhooks(body, package, family, maker):
    kit = pytest.importorskip(f"{package}.webhooks").Webhook(WHSEC)
    signature = kit.sign("msg_1", datetime.fromtimestamp(NOW, UTC), body)
    names = {"id": b"msg_1", "timestamp": seconds(NOW), "signature": signature.encode()}
    request = post(body.encode(), **{f"{family}_{name}": value for name, value in names.items()})
    verdict = maker(secret=given(WHSEC)).verify(request, NOW)
    assert isinstance(verdict, Verified), verdict


@pytest.mark.parametrize("body", BODIES)
def test_slack(body):
    kit = pytest.importorskip("slack_sdk.signature").SignatureVerifier(KEY)
    signature = kit.generate_signature(timestamp=str(int(NOW)), body=body)
    request = post(
        body.encode(), x_slack_signature=signature.encode(), x_slack_request_timestamp=seconds(NOW)
    )
    assert isinstance(Slack(secret=given(KEY)).verify(request, NOW), Verified)


@pytest.mark.parametrize("url", [URL, "https://shop.example:443/hooks", "https://shop.example:8443/hooks"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_twilio(url, algorithm):
    kit = pytest.importorskip("twilio.request_validator").RequestValidator(KEY)
    signature = kit.compute_signature(url, {"B": "2 ä", "A": "1", "E": ""}, f"HMAC_{algorithm.upper()}")
    request = post(b"B=2+%C3%A4&E=&A=1", x_twilio_signature=signature.encode())
    verdict = Twilio(secret=given(KEY), url=url, algorithm=algorithm).verify(request, NOW)
    assert isinstance(verdict, Verified), verdict
