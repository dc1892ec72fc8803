"""One authentic request a provider, made here from the documented scheme and by none of the code under test."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from consumer.webhooks import (
    Bitbucket,
    CloudEvents,
    Discord,
    GitHub,
    GitLab,
    Hmac,
    HubSpot,
    Intercom,
    Linear,
    Mailgun,
    Meta,
    Paddle,
    Provider,
    Request,
    Shopify,
    Slack,
    Square,
    StandardWebhooks,
    Stripe,
    Svix,
    Twilio,
    Verified,
    Zoom,
)

NOW = 1_700_000_000.0
KEY = "a-secret-of-the-tests"
RAW = b"0123456789abcdefghijklmn"
WHSEC = "whsec_" + base64.b64encode(RAW).decode()
SEED = bytes(range(32))
URL = "https://shop.example/hooks"
TOKEN = "0123456789" * 5


def given(*texts: str) -> Callable[[], list[str]]:
    return lambda: list(texts)


def mac(content: bytes, key: str | bytes = KEY, digest: str = "sha256") -> bytes:
    return hmac.digest(key if isinstance(key, bytes) else key.encode(), content, digest)


def b64(raw: bytes) -> bytes:
    return base64.b64encode(raw)


def hexed(raw: bytes) -> bytes:
    return raw.hex().encode()


def ed25519(content: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(SEED).sign(content)


def ed25519_public() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()


def post(body: bytes, **headers: bytes) -> Request:
    pairs = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return Request(headers=[*pairs, (b"content-type", b"application/json")], body=body)


class Sample(NamedTuple):
    """A provider, how it signs (body, time, secret), its signature's and its timestamp's header, its event's id."""

    provider: Callable[..., Any]
    sign: Callable[..., Request]
    signature: str
    timestamp: str
    event_id: str | None
    id_signed: bool
    body: bytes
    stamped: bool


def seconds(now: float) -> bytes:
    return str(int(now)).encode()


def _standard(family: str) -> Callable[..., Request]:
    def sign(body: bytes, now: float = NOW, key: bytes = RAW, event_id: bytes = b"msg_1") -> Request:
        signature = b"v1," + b64(mac(event_id + b"." + seconds(now) + b"." + body, key))
        names = {"id": event_id, "timestamp": seconds(now), "signature": signature}
        return post(body, **{f"{family}_{name}": value for name, value in names.items()})

    return sign


def _stripe(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    signature = hexed(mac(seconds(now) + b"." + body, key))
    return post(body, stripe_signature=b"t=" + seconds(now) + b",v1=" + signature)


def _paddle(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    signature = hexed(mac(seconds(now) + b":" + body, key))
    return post(body, paddle_signature=b"ts=" + seconds(now) + b";h1=" + signature)


def _v0(prefix: str, stamp: str) -> Callable[..., Request]:
    def sign(body: bytes, now: float = NOW, key: str = KEY) -> Request:
        signature = b"v0=" + hexed(mac(b"v0:" + seconds(now) + b":" + body, key))
        return post(body, **{prefix: signature, stamp: seconds(now)})

    return sign


def _body_only(
    header: str, prefix: bytes, id_header: str | None, digest: str, encode: Callable[[bytes], bytes]
):
    def sign(body: bytes, now: float = NOW, key: str = KEY) -> Request:
        names = {header: prefix + encode(mac(body, key, digest))}
        return post(body, **names, **({id_header: b"delivery-1"} if id_header else {}))

    return sign


def _linear(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    stamped = body.replace(b'"NOW"', str(int(now * 1000)).encode())
    return post(stamped, linear_signature=hexed(mac(stamped, key)), linear_delivery=b"delivery-1")


def _hubspot(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    stamp = str(int(now * 1000)).encode()
    signature = b64(mac(b"POST" + URL.encode() + body + stamp, key))
    return post(body, x_hubspot_signature_v3=signature, x_hubspot_request_timestamp=stamp)


def _mailgun(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    data = json.loads(body)
    stamp = seconds(now)
    signature = mac(stamp + TOKEN.encode(), key).hex()
    data["signature"] = {"timestamp": stamp.decode(), "token": TOKEN, "signature": signature}
    return post(json.dumps(data).encode())


def _twilio(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    pairs = sorted({tuple(pair.split("=")) for pair in body.decode().split("&")})
    content = URL + "".join(name + value for name, value in pairs)
    signature = b64(mac(content.encode(), key, "sha1"))
    return post(body, x_twilio_signature=signature, i_twilio_idempotency_token=b"delivery-1")


def _discord(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    signature = ed25519(seconds(now) + body) if key == KEY else bytes(64)
    return post(body, x_signature_ed25519=hexed(signature), x_signature_timestamp=seconds(now))


def _gitlab(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    return post(body, x_gitlab_token=key.encode(), idempotency_key=b"delivery-1")


def _square(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    return post(body, x_square_hmacsha256_signature=b64(mac(URL.encode() + body, key)))


def _bearer(body: bytes, now: float = NOW, key: str = KEY) -> Request:
    event = {"ce_id": b"e1", "ce_source": b"/shop", "ce_type": b"t", "ce_specversion": b"1.0"}
    return post(body, authorization=b"Bearer " + key.encode(), **event)


def _by_secret(maker: Callable[..., Provider], **options: object) -> Callable[..., Provider]:
    return lambda *keys: maker(secret=given(*(keys or (KEY,))), **options)


def _hub(header: str, prefix: bytes, id_header: str | None, digest: str = "sha256", encode=hexed):
    return _body_only(header, prefix, id_header, digest, encode)


ID = b'{"id":"evt_1","event_id":"evt_1"}'
SAMPLES = {
    "standard": Sample(
        lambda *keys: StandardWebhooks(secret=given(*(keys or (WHSEC,)))),
        _standard("webhook"), "webhook-signature", "webhook-timestamp", "msg_1", id_signed=True, body=ID, stamped=True,
    ),
    "svix": Sample(
        lambda *keys: Svix(secret=given(*(keys or (WHSEC,)))),
        _standard("svix"), "svix-signature", "svix-timestamp", "msg_1", id_signed=True, body=ID, stamped=True,
    ),
    "gitlab-signed": Sample(
        lambda *keys: GitLab(signing_token=given(*(keys or (WHSEC,)))),
        _standard("webhook"), "webhook-signature", "webhook-timestamp", "msg_1", id_signed=True, body=ID, stamped=True,
    ),
    "stripe": Sample(_by_secret(Stripe), _stripe, "stripe-signature", "", "evt_1", id_signed=True, body=ID, stamped=True),
    "paddle": Sample(_by_secret(Paddle), _paddle, "paddle-signature", "", "evt_1", id_signed=True, body=ID, stamped=True),
    "github": Sample(
        _by_secret(GitHub), _hub("x_hub_signature_256", b"sha256=", "x_github_delivery"),
        "x-hub-signature-256", "", "delivery-1", id_signed=False, body=ID, stamped=False,
    ),
    "bitbucket": Sample(
        _by_secret(Bitbucket), _hub("x_hub_signature", b"sha256=", "x_request_uuid"),
        "x-hub-signature", "", "delivery-1", id_signed=False, body=ID, stamped=False,
    ),
    "shopify": Sample(
        _by_secret(Shopify), _hub("x_shopify_hmac_sha256", b"", "x_shopify_webhook_id", encode=b64),
        "x-shopify-hmac-sha256", "", "delivery-1", id_signed=False, body=ID, stamped=False,
    ),
    "intercom": Sample(
        _by_secret(Intercom), _hub("x_hub_signature", b"sha1=", None, "sha1"),
        "x-hub-signature", "", "evt_1", id_signed=True, body=ID, stamped=False,
    ),
    "meta": Sample(
        _by_secret(Meta, verify_token=given("a-verify-token")), _hub("x_hub_signature_256", b"sha256=", None),
        "x-hub-signature-256", "", None, id_signed=False, body=ID, stamped=False,
    ),
    "gitlab": Sample(_by_secret(GitLab), _gitlab, "x-gitlab-token", "", "delivery-1", id_signed=False, body=ID, stamped=False),
    "slack": Sample(
        _by_secret(Slack), _v0("x_slack_signature", "x_slack_request_timestamp"),
        "x-slack-signature", "x-slack-request-timestamp", "evt_1", id_signed=True, body=ID, stamped=True,
    ),
    "zoom": Sample(
        _by_secret(Zoom), _v0("x_zm_signature", "x_zm_request_timestamp"),
        "x-zm-signature", "x-zm-request-timestamp", None, id_signed=False, body=ID, stamped=True,
    ),
    "square": Sample(
        _by_secret(Square, url=URL), _square, "x-square-hmacsha256-signature", "", "evt_1", id_signed=True, body=ID, stamped=False
    ),
    "hubspot": Sample(
        _by_secret(HubSpot, url=URL), _hubspot, "x-hubspot-signature-v3", "x-hubspot-request-timestamp",
        "1:2:3", id_signed=True, body=b'[{"eventId":1,"subscriptionId":2,"portalId":3}]', stamped=True,
    ),
    "linear": Sample(
        _by_secret(Linear), _linear, "linear-signature", "", "delivery-1", id_signed=False,
        body=b'{"webhookTimestamp":"NOW","type":"Issue"}', stamped=True,
    ),
    "twilio": Sample(
        _by_secret(Twilio, url=URL), _twilio, "x-twilio-signature", "", "delivery-1", id_signed=False, body=b"B=2&A=1", stamped=False
    ),
    "discord": Sample(
        lambda *keys: Discord(public_key=given(*(keys or (ed25519_public().hex(),)))),
        _discord, "x-signature-ed25519", "x-signature-timestamp", "evt_1", id_signed=True, body=ID, stamped=True,
    ),
    "cloudevents": Sample(
        _by_secret(CloudEvents), _bearer, "authorization", "", "/shop e1", id_signed=False, body=b"data", stamped=False
    ),
    "mailgun": Sample(_by_secret(Mailgun), _mailgun, "", "", TOKEN, id_signed=True, body=b'{"event-data":{}}', stamped=True),
    "generic": Sample(
        _by_secret(Hmac, name="acme", header="X-Acme", signed="{body}", prefix="v1=", id_field="id"),
        _hub("x_acme", b"v1=", None), "x-acme", "", "evt_1", id_signed=True, body=ID, stamped=False,
    ),
}  # fmt: skip


def accepted(provider: Provider, request: Request, now: float = NOW) -> Verified:
    """The verdict, which must be that the request is authentic."""
    verdict = provider.verify(request, now)
    assert isinstance(verdict, Verified), verdict
    return verdict


def changed(request: Request, name: str, value: bytes | None) -> Request:
    """The request with a header replaced, or (`None`) taken out."""
    kept = [pair for pair in request.headers if pair[0] != name.encode()]
    return Request(
        method=request.method,
        query=request.query,
        headers=kept if value is None else [*kept, (name.encode(), value)],
        body=request.body,
    )


def with_body(request: Request, body: bytes) -> Request:
    return Request(method=request.method, query=request.query, headers=request.headers, body=body)


def value_of(request: Request, name: str) -> bytes:
    return next(value for known, value in request.headers if known == name.encode())


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
