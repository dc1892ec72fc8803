"""What holds for every provider of the table."""

from __future__ import annotations

import pytest

from consumer.webhooks import Reason, Refused, Reply, Request, Verified, receive
from consumer.webhooks.reader import LONGEST_HEADER
from consumer.webhooks.table import ROWS

from .samples import KEY, NOW, SAMPLES, WHSEC, Sample, changed, digest, ed25519_public, value_of, with_body

EVERY = pytest.mark.parametrize("name", SAMPLES)
WITH_HEADER = pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].signature])
STAMPED = pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].stamped])
STAMP_HEADER = pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES[name].timestamp])
TOKENS = {"gitlab", "cloudevents"}


def made(name: str) -> tuple[Sample, Request]:
    sample = SAMPLES[name]
    return sample, sample.sign(sample.body)


def verified(name: str, request: Request, *keys: str, now: float = NOW) -> Verified:
    verdict = SAMPLES[name].provider(*keys).verify(request, now)
    assert isinstance(verdict, Verified), verdict
    return verdict


def refused(name: str, request: Request, *keys: str, now: float = NOW) -> Refused:
    verdict = SAMPLES[name].provider(*keys).verify(request, now)
    assert isinstance(verdict, Refused), verdict
    return verdict


def test_every_row_has_a_sample():
    assert {row.name for row in ROWS} == {SAMPLES[name].provider().name for name in SAMPLES} - {"acme"}


@EVERY
def test_an_authentic_request_is_verified(name):
    sample, request = made(name)
    verdict = verified(name, request)
    assert verdict.event_id == sample.event_id
    assert verdict.id_signed is sample.id_signed
    assert verdict.timestamp == (NOW if sample.stamped else None)
    assert verdict.secret_index == 0
    if name != "hubspot":
        assert verdict.items[0].value == request.body
    assert receive(sample.provider(), request, NOW) == verdict


@EVERY
def test_a_guard_stands_exactly_where_the_content_is_authentic_and_the_name_proves_nothing(name):
    sample, request = made(name)
    guard = verified(name, request).guard
    if sample.id_signed or name in TOKENS:
        assert guard is None
    elif name == "twilio":
        assert guard == digest(b"https://shop.example/hooksA1B2")
    else:
        assert guard == digest(request.body)


@EVERY
def test_another_body_is_refused_where_the_body_is_signed(name):
    sample, request = made(name)
    if not sample.provider().signs_body:
        assert name in TOKENS | {"mailgun"}
        return
    for body in (request.body + b" ", request.body[:-1], b""):
        assert refused(name, with_body(request, body)).status in {400, 401}


@EVERY
def test_another_secret_is_refused(name):
    sample, _ = made(name)
    other = b"x" * 24 if sample.event_id == "msg_1" else "another-secret"
    refusal = refused(name, sample.sign(sample.body, NOW, other))
    assert (refusal.status, refusal.reason) == (401, Reason.MISMATCH)


@WITH_HEADER
def test_a_missing_signature_is_401(name):
    sample, request = made(name)
    refusal = refused(name, changed(request, sample.signature, None))
    assert (refusal.status, refusal.reason) == (401, Reason.MISSING)


@WITH_HEADER
def test_a_signature_header_that_occurs_twice_is_refused_even_if_both_are_right(name):
    sample, request = made(name)
    value = value_of(request, sample.signature)
    twice = Request(headers=[*request.headers, (sample.signature.encode(), value)], body=request.body)
    refusal = refused(name, twice)
    assert (refusal.status, refusal.reason) == (401, Reason.DUPLICATE)


@WITH_HEADER
def test_a_changed_signature_is_refused_byte_by_byte(name):
    sample, request = made(name)
    value = value_of(request, sample.signature)
    for place in range(len(value)):
        other = value[:place] + (b"0" if value[place : place + 1] != b"0" else b"1") + value[place + 1 :]
        if other.lower() != value.lower():
            assert refused(name, changed(request, sample.signature, other)).status in {400, 401}


@WITH_HEADER
def test_no_byte_in_a_signature_raises(name):
    sample, request = made(name)
    value = value_of(request, sample.signature)
    for byte in range(256):
        for junk in (bytes([byte]), value + bytes([byte]), bytes([byte]) + value, value[:-1] + bytes([byte])):
            # Digits have two cases, and lists of signatures may have blanks around them.
            if junk.strip(b" ").lower() != value.lower():
                assert refused(name, changed(request, sample.signature, junk)).status in {400, 401}


@WITH_HEADER
def test_a_very_long_header_is_refused_unread(name):
    sample, request = made(name)
    value = value_of(request, sample.signature)
    refusal = refused(name, changed(request, sample.signature, value + b"," * LONGEST_HEADER))
    assert refusal.reason is Reason.MALFORMED


@EVERY
def test_a_refusal_echoes_nothing_of_the_request_and_no_secret(name):
    sample, request = made(name)
    canary = b"canary-4711"
    broken = changed(with_body(request, canary), sample.signature or "x", canary)
    refusal = refused(name, broken)
    assert "canary" not in refusal.text
    assert KEY not in refusal.text
    assert "canary" not in repr(
        sample.provider("canary-secret-1") if sample.event_id != "msg_1" and name != "discord" else ""
    )


@STAMPED
@pytest.mark.parametrize(
    ("age", "reason"), [(301, Reason.STALE), (86_400, Reason.STALE), (-301, Reason.FUTURE)]
)
def test_a_timestamp_out_of_tolerance_is_refused_past_and_future(name, age, reason):
    sample = SAMPLES[name]
    refusal = refused(name, sample.sign(sample.body, NOW - age))
    assert (refusal.status, refusal.reason) == (401, reason)


@STAMPED
@pytest.mark.parametrize("age", [300, -300, 0])
def test_a_timestamp_within_the_tolerance_is_taken(name, age):
    sample = SAMPLES[name]
    assert verified(name, sample.sign(sample.body, NOW - age)).timestamp == NOW - age


@STAMP_HEADER
@pytest.mark.parametrize(
    "text", [b"", b"hello", b"1e3", b" 1700000000", b"1700000000 ", b"+1700000000", b"-1", b"1700000000.0", b"1" * 30,
             "١٧٠٠٠٠٠٠٠٠".encode(), b"1700000000\n", b"17_00000000", b"0x6553f100", b"\xff"]
)  # fmt: skip
def test_a_timestamp_that_is_no_plain_number_is_400(name, text):
    sample, request = made(name)
    refusal = refused(name, changed(request, sample.timestamp, text))
    assert refusal.reason is Reason.MALFORMED
    assert refusal.status == (401 if name == "discord" else 400)


@STAMP_HEADER
def test_a_missing_or_doubled_timestamp_is_401(name):
    sample, request = made(name)
    assert refused(name, changed(request, sample.timestamp, None)).reason is Reason.MISSING
    twice = Request(
        headers=[*request.headers, (sample.timestamp.encode(), value_of(request, sample.timestamp))],
        body=request.body,
    )
    assert refused(name, twice).reason is Reason.DUPLICATE


@STAMP_HEADER
def test_a_timestamp_has_one_spelling(name):
    sample, request = made(name)
    stamp = value_of(request, sample.timestamp)
    for other in (b"0" + stamp, stamp + b"0", stamp[:-1], b"0"):
        assert refused(name, changed(request, sample.timestamp, other)).reason in {
            Reason.STALE,
            Reason.FUTURE,
        }


@EVERY
def test_of_several_secrets_each_counts_and_is_named_by_its_position(name):
    sample, request = made(name)
    if name == "discord":
        keys = ("00" * 32, ed25519_public().hex())
    elif sample.event_id == "msg_1":
        keys = ("whsec_" + "A" * 32, WHSEC)
    else:
        keys = ("first-secret", KEY)
    assert verified(name, request, *keys).secret_index == 1
    assert verified(name, request, *reversed(keys)).secret_index == 0


@EVERY
def test_other_methods_are_405(name):
    sample, request = made(name)
    provider = sample.provider()
    put = Request(method="PUT", headers=request.headers, body=request.body)
    reply = receive(provider, put, NOW)
    assert isinstance(reply, Reply)
    assert reply.status == 405
    assert dict(reply.headers)[b"allow"].decode() == ", ".join(provider.methods)


@WITH_HEADER
def test_header_names_in_any_case_are_the_same(name):
    _, request = made(name)
    upper = Request(headers=[(key.upper(), value) for key, value in request.headers], body=request.body)
    assert verified(name, upper).items == verified(name, request).items


@EVERY
def test_what_is_kept_of_the_headers_holds_no_credential(name):
    sample, request = made(name)
    more = [(b"authorization", b"Bearer " + KEY.encode()), (b"cookie", b"a=b")]
    headers = [pair for pair in request.headers if pair[0] != b"authorization"] + more
    kept = verified(name, Request(headers=headers, body=request.body)).headers
    assert ("content-type", b"application/json") in kept
    assert not {"authorization", "cookie", sample.signature} & {key for key, _ in kept}
