"""Published vectors: official documentation, official libraries' own tests, recomputed by hand."""

from __future__ import annotations

from typing import NamedTuple

from consumer.webhooks import (
    Bitbucket,
    GitHub,
    HubSpot,
    Paddle,
    Provider,
    Request,
    Slack,
    Square,
    StandardWebhooks,
    Twilio,
)

from .samples import given, post


class Vector(NamedTuple):
    name: str
    provider: Provider
    request: Request
    now: float


def _standard(signature: bytes, body: bytes, event_id: bytes, stamp: bytes) -> Request:
    return post(body, webhook_id=event_id, webhook_timestamp=stamp, webhook_signature=signature)


def _twilio(signature: bytes, body: bytes, query: bytes = b"foo=1&bar=2") -> Request:
    return Request(query=query, headers=[(b"x-twilio-signature", signature)], body=body)


SLACK = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
    b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
FORM = b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"
TWILIO = Twilio(secret=given("12345"), url="https://mycompany.com/myapp.php")
DIGEST = b"foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
SQUARE_BODY = (
    b'{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
    b'"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z",'
    b'"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
)
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_ID = b"msg_p5jXN8AQM9LWM0D4loKWxJek"
V1 = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = b"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
EVERYBODY = given("It's a Secret to Everybody")

VECTORS = [
    Vector(
        "standard v1 (nine official libraries)",
        StandardWebhooks(secret=given(SECRET)),
        _standard(V1, STANDARD_BODY, STANDARD_ID, b"1614265330"),
        1_614_265_330,
    ),
    Vector(
        "standard v1 (official Rust library)",
        StandardWebhooks(secret=given("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")),
        _standard(
            b"v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            b'{"email":"test@example.com","username":"test_user"}',
            b"msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            b"1649367553",
        ),
        1_649_367_553,
    ),
    Vector(
        "standard v1a (Svix' server)",
        StandardWebhooks(secret=given(PUBLIC)),
        _standard(V1A, STANDARD_BODY, STANDARD_ID, b"1614265330"),
        1_614_265_330,
    ),
    Vector(
        "github (documentation)",
        GitHub(secret=EVERYBODY),
        post(
            b"Hello, World!",
            x_hub_signature_256=b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        0,
    ),
    Vector(
        "github (octokit)",
        GitHub(secret=given("mysecret")),
        post(
            b'{"foo":"bar"}',
            x_hub_signature_256=b"sha256=4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3",
        ),
        0,
    ),
    Vector(
        "bitbucket (Atlassian's example)",
        Bitbucket(secret=EVERYBODY),
        post(
            b"Hello World!",
            x_hub_signature=b"sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9",
        ),
        0,
    ),
    Vector(
        "slack (documentation)",
        Slack(secret=given("8f742231b10e8888abcd99yyyzzz85a5")),
        post(
            SLACK,
            x_slack_signature=b"v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            x_slack_request_timestamp=b"1531420618",
        ),
        1_531_420_618,
    ),
    Vector("twilio form", TWILIO, _twilio(b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", FORM), 0),
    Vector(
        "twilio http :1234",
        Twilio(secret=given("12345"), url="http://mycompany.com:1234/myapp.php"),
        _twilio(b"Zmvh+3yNM1Phv2jhDCwEM3q5ebU=", FORM),
        0,
    ),
    Vector("twilio https :443", TWILIO, _twilio(b"kvajT1Ptam85bY51eRf/AJRuM3w=", FORM), 0),
    Vector(
        "twilio http :80",
        Twilio(secret=given("12345"), url="http://mycompany.com/myapp.php"),
        _twilio(b"0ZXoZLH/DfblKGATFgpif+LLRf4=", FORM),
        0,
    ),
    Vector(
        "twilio repeated parameters",
        TWILIO,
        _twilio(
            b"IK+Dwps556ElfBT0I3Rgjkr1wJU=", b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234"
        ),
        0,
    ),
    Vector(
        "twilio bodySHA256",
        TWILIO,
        _twilio(b"a9nBmqA0ju/hNViExpshrM61xv4=", b'{"property": "value", "boolean": true}', DIGEST),
        0,
    ),
    Vector(
        "square",
        Square(
            secret=given("Ibxx_5AKakO-3qeNVR61Dw"),
            url="https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9",
        ),
        post(SQUARE_BODY, x_square_hmacsha256_signature=b"GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="),
        0,
    ),
    Vector(
        "square escaped",
        Square(secret=given("signature-key"), url="https://webhook.site/webhooks"),
        post(
            b'{"data":{"type":"webhooks","id":">id<"}}',
            x_square_hmacsha256_signature=b"Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U=",
        ),
        0,
    ),
    Vector(
        "paddle",
        Paddle(secret=given("pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh")),
        post(
            b"hello-world",
            paddle_signature=b"ts=1696195954;h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02",
        ),
        1_696_195_954,
    ),
    Vector(
        "hubspot v3",
        HubSpot(
            secret=given("yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"), url="https://www.example.com/webhook_uri"
        ),
        post(
            b"{'example_field':'example_value'}",
            x_hubspot_signature_v3=b"K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=",
            x_hubspot_request_timestamp=b"1693657560000",
        ),
        1_693_657_560,
    ),
]
