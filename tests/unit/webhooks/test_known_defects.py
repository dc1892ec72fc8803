"""Defects seen in libraries, ingests and official kits: each with a test that ours does not have it."""

from __future__ import annotations

import ast
import base64
import inspect
import logging
import textwrap

import pytest

from consumer.errors import SettingsError
from consumer.webhooks import (
    GitHub,
    HubSpot,
    Linear,
    Mailgun,
    Paddle,
    Reason,
    Refused,
    Request,
    Slack,
    StandardWebhooks,
    Stripe,
    Twilio,
    Verified,
    signed,
    signers,
)
from consumer.webhooks.reader import MOST_SIGNATURES

from .samples import (
    KEY,
    NOW,
    RAW,
    SAMPLES,
    URL,
    WHSEC,
    accepted,
    b64,
    changed,
    digest,
    given,
    hexed,
    mac,
    post,
    seconds,
    value_of,
    with_body,
)


def sign(name, body=None, now=NOW, **more):
    return SAMPLES[name].sign(SAMPLES[name].body if body is None else body, now, **more)


def ask(name, request, now=NOW):
    return SAMPLES[name].provider().verify(request, now)


# --- the Standard Webhooks and Svix libraries


@pytest.mark.parametrize(
    "signature", [b"v1", b"v1,a,b", b"v1,abc", b"v1,a  v1,b", b"", b" ", b",", b"v1,", b"v1,\xff"]
)
def test_a_malformed_list_is_400_and_no_exception(signature):
    verdict = ask("standard", changed(sign("standard"), "webhook-signature", signature))
    assert isinstance(verdict, Refused)
    assert verdict.status == 400


@pytest.mark.parametrize("body", [b"\xff\xfe", b"no JSON", b"", b"[" * 100_000, b'{"a":' * 5_000])
@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in {"mailgun", "linear", "twilio"}])
def test_a_body_of_any_bytes_is_verified_where_it_is_authentic(name, body):
    request = sign(name, body)
    verdict = ask(name, request)
    assert isinstance(verdict, Verified), verdict
    assert b"".join(item.value for item in verdict.items) == body


@pytest.mark.parametrize("junk", [b"!", b"\n", b" ", b"=", b"-"])
@pytest.mark.parametrize("place", [5, 20, -1])
def test_junk_within_base64_is_not_skipped(junk, place):
    request = sign("standard")
    value = value_of(request, "webhook-signature")
    verdict = ask("standard", changed(request, "webhook-signature", value[:place] + junk + value[place:]))
    assert isinstance(verdict, Refused)


def test_unused_bits_of_base64_are_not_skipped():
    request = sign("standard")
    value = value_of(request, "webhook-signature")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(value[-2]) ^ 1]
    other = value[:-2] + bytes([last]) + b"="
    assert base64.b64decode(other[3:]) == base64.b64decode(value[3:])
    assert isinstance(ask("standard", changed(request, "webhook-signature", other)), Refused)


def test_signed_bytes_have_one_reading_as_id_time_and_body():
    """The sender signs an old message whose body begins with a time; cut elsewhere it is a new id at a fresh time."""
    old = b"1600000000"
    request = sign("standard", b'1700000000.{"a":1}', now=1_600_000_000)
    signature = value_of(request, "webhook-signature")
    recut = post(
        b'{"a":1}',
        webhook_id=b"msg_1." + old,
        webhook_timestamp=seconds(NOW),
        webhook_signature=signature,
    )
    assert mac(b"msg_1." + old + b"." + seconds(NOW) + b'.{"a":1}', RAW) == base64.b64decode(signature[3:])
    verdict = ask("standard", recut)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MALFORMED


@pytest.mark.parametrize("event_id", [b"", b"a b", b"\xff", b"x" * 256, b"a\x00b", b"a.b", b"a\n"])
def test_an_id_that_is_none_is_refused(event_id):
    verdict = ask("standard", sign("standard", event_id=event_id))
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MALFORMED


def test_headers_of_two_families_are_not_mixed():
    good, stray = sign("standard"), SAMPLES["svix"].sign(b"other", NOW, b"y" * 24)
    both = Request(headers=[*stray.headers[:-1], *good.headers], body=good.body)
    assert isinstance(ask("standard", both), Verified)
    mixed = changed(Request(headers=both.headers, body=good.body), "webhook-signature", None)
    assert isinstance(ask("standard", mixed), Refused)
    assert isinstance(ask("standard", SAMPLES["svix"].sign(b"{}")), Verified)


def test_ten_thousand_signatures_cost_nothing():
    request = sign("standard")
    good = value_of(request, "webhook-signature")
    short = b" ".join([b"v1,AAAA"] * MOST_SIGNATURES + [good])
    verdict = ask("standard", changed(request, "webhook-signature", short))
    assert isinstance(verdict, Refused)
    assert "more than" in verdict.text
    many = b" ".join([b"v1,AAAA"] * 10_000 + [good])
    assert isinstance(ask("standard", changed(request, "webhook-signature", many)), Refused)


# --- Stripe's kit, webhookkit, knockerlite


def test_stripes_two_signatures_count_in_any_order():
    request = sign("stripe")
    stamp, good = value_of(request, "stripe-signature").split(b",")
    bad = b"v1=" + b"0" * 64
    for order in ([stamp, good, bad], [stamp, bad, good], [bad, good, stamp], [stamp, b"v0=1", good, bad]):
        verdict = ask("stripe", changed(request, "stripe-signature", b",".join(order)))
        assert isinstance(verdict, Verified), order


def test_two_times_in_one_header_are_refused():
    request = sign("stripe")
    value = value_of(request, "stripe-signature")
    for order in (b"t=1," + value, value + b",t=1"):
        assert isinstance(ask("stripe", changed(request, "stripe-signature", order)), Refused)


@pytest.mark.parametrize("tolerance", [0, -1, float("inf"), float("nan")])
def test_the_check_of_time_cannot_be_turned_off(tolerance):
    with pytest.raises(SettingsError, match="tolerance"):
        Stripe(secret=given(KEY), tolerance=tolerance)


def test_a_time_ten_years_ahead_is_refused():
    verdict = ask("stripe", sign("stripe", now=NOW + 315_360_000))
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.FUTURE


def test_a_stripe_secret_is_used_as_it_stands():
    text = "whsec_" + base64.b64encode(b"x" * 24).decode()
    verdict = Stripe(secret=given(text)).verify(SAMPLES["stripe"].sign(b"{}", NOW, text), NOW)
    assert isinstance(verdict, Verified)


def test_a_retry_that_is_signed_anew_has_the_same_event():
    first, second = sign("stripe", now=NOW), sign("stripe", now=NOW + 200)
    assert value_of(first, "stripe-signature") != value_of(second, "stripe-signature")
    assert ask("stripe", first).event_id == ask("stripe", second, NOW + 200).event_id == "evt_1"
    zoom = [ask("zoom", sign("zoom", now=NOW + late), NOW + late).guard for late in (0, 200)]
    assert zoom[0] == zoom[1]


@pytest.mark.parametrize("name", ["github", "bitbucket", "shopify", "linear", "twilio"])
def test_a_replay_under_a_new_id_has_the_guard_of_the_first(name):
    request = sign(name)
    place = SAMPLES[name].provider().row.event_id.name
    first = ask(name, request)
    second = ask(name, changed(request, place, b"delivery-2"))
    assert (first.event_id, second.event_id) == ("delivery-1", "delivery-2")
    assert first.guard == second.guard is not None
    without = ask(name, changed(request, place, None))
    assert without.event_id is None
    assert without.guard == first.guard


def test_the_guard_can_be_left_out_for_bodies_that_repeat_honestly():
    assert accepted(GitHub(secret=given(KEY), guard=False), sign("github")).guard is None


def test_events_without_a_name_never_share_an_empty_one():
    verdicts = [ask("stripe", sign("stripe", body)) for body in (b'{"a":1}', b'{"a":2}')]
    assert [verdict.event_id for verdict in verdicts] == [None, None]
    assert verdicts[0].guard != verdicts[1].guard
    for body in (
        b'{"id":""}',
        b'{"id":null}',
        b'{"id":true}',
        b'{"id":1.5}',
        b'{"id":{}}',
        b'{"id":"a\\u0000"}',
        b"[]",
    ):
        verdict = ask("stripe", sign("stripe", body))
        assert verdict.event_id is None
        assert verdict.guard == digest(body)
        assert "no event id" in verdict.remark


# --- slack_sdk


@pytest.mark.parametrize("stamp", [b"abc", b"", b"1e9", b"\xff"])
def test_a_slack_time_that_is_no_number_is_400(stamp):
    verdict = ask("slack", changed(sign("slack"), "x-slack-request-timestamp", stamp))
    assert isinstance(verdict, Refused)
    assert verdict.status == 400


# --- Twilio


def test_twilio_json_is_not_vouched_for_by_the_address_alone():
    """A body that is no form has no pairs; skipped, it would leave the signature of the bare address."""
    provider = Twilio(secret=given(KEY), url=URL)
    signature = b64(mac(URL.encode(), KEY, "sha1"))
    assert isinstance(provider.verify(post(b"", x_twilio_signature=signature), NOW), Verified)
    for body in (b'{"forged":1}', b"forged", b"&", b"a", b"\xff"):
        verdict = provider.verify(post(body, x_twilio_signature=signature), NOW)
        assert isinstance(verdict, Refused)
        assert verdict.reason is Reason.MALFORMED


def test_twilio_digests_twice_or_of_another_body_are_refused():
    provider = Twilio(secret=given(KEY), url=URL)
    query = b"bodySHA256=" + hexed(digest(b"{}"))
    signature = b64(mac(URL.encode() + b"?" + query, KEY, "sha1"))
    good = Request(query=query, headers=[(b"x-twilio-signature", signature)], body=b"{}")
    assert isinstance(provider.verify(good, NOW), Verified)
    assert isinstance(provider.verify(with_body(good, b"{ }"), NOW), Refused)
    both = query + b"&" + query
    signature = b64(mac(URL.encode() + b"?" + both, KEY, "sha1"))
    twice = Request(query=both, headers=[(b"x-twilio-signature", signature)], body=b"{}")
    assert isinstance(provider.verify(twice, NOW), Refused)


def test_twilio_parameters_cut_elsewhere_have_the_same_guard():
    request = sign("twilio", b"AB=C")
    other = with_body(request, b"A=BC")
    assert ask("twilio", request).guard == ask("twilio", other).guard


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "ftp://x",
        "https://",
        "https://x/?a=1",
        "https://x/#rc=1",
        "https://ä/",
        "https://[x/",
        "https://a b/",
    ],
)
def test_a_url_that_is_none_is_refused_at_once(url):
    with pytest.raises(SettingsError, match="url="):
        Twilio(secret=given(KEY), url=url)


# --- Square, HubSpot: the address is of configuration


@pytest.mark.parametrize("name", ["square", "hubspot", "twilio"])
def test_a_forged_host_makes_no_difference(name):
    request = sign(name)
    more = [
        (b"host", b"evil.example"),
        (b"x-forwarded-host", b"evil.example"),
        (b"x-forwarded-proto", b"http"),
    ]
    forged = Request(headers=[*request.headers, *more], body=request.body)
    assert isinstance(ask(name, forged), Verified)
    elsewhere = Request(query=b"x=1", headers=request.headers, body=request.body)
    assert isinstance(ask(name, elsewhere), Refused)


@pytest.mark.parametrize("name", ["hubspot", "discord"])
def test_a_time_without_a_delimiter_cannot_lend_digits_to_the_body(name):
    place = SAMPLES[name].timestamp
    request = sign(name)
    stamp = value_of(request, place)
    if name == "hubspot":  # …{body}{timestamp}
        recut = changed(with_body(request, request.body + stamp[:1]), place, stamp[1:])
    else:  # {timestamp}{body}
        recut = changed(with_body(request, stamp[-1:] + request.body), place, stamp[:-1])
    assert isinstance(ask(name, recut), Refused)


def test_hubspots_older_schemes_are_refused():
    request = post(b"[]", x_hubspot_signature=hexed(digest(KEY.encode() + b"[]")))
    assert isinstance(HubSpot(secret=given(KEY), url=URL).verify(request, NOW), Refused)


# --- Paddle


def test_an_unknown_pair_in_paddles_header_is_ignored():
    request = sign("paddle")
    value = value_of(request, "paddle-signature")
    assert isinstance(ask("paddle", changed(request, "paddle-signature", value + b";h2=abc")), Verified)


def test_no_environment_turns_the_check_off(monkeypatch):
    monkeypatch.setenv("TEST_MODE", "true")
    monkeypatch.setenv("DEBUG", "true")
    assert isinstance(Paddle(secret=given(KEY)).verify(sign("paddle", now=NOW - 301), NOW), Refused)


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_logged_and_no_repr_shows_a_secret(name, caplog):
    caplog.set_level(logging.DEBUG)
    provider = SAMPLES[name].provider()
    provider.check()
    provider.verify(sign(name), NOW)
    assert caplog.text == ""
    rotation = getattr(provider, "rotation", None) or provider.outer.rotation
    shown = repr(provider) + repr(rotation.current(NOW))
    assert KEY not in shown
    assert WHSEC not in shown
    assert repr(RAW) not in shown


# --- Linear


def test_linears_time_is_the_signed_one():
    body = b'{"type":"Issue"}'
    request = post(body, linear_signature=hexed(mac(body)), linear_timestamp=str(int(NOW * 1000)).encode())
    verdict = Linear(secret=given(KEY)).verify(request, NOW)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MISSING


# --- Mailgun, django-anymail


def test_a_mailgun_token_grows_old_and_names_the_delivery():
    late = ask("mailgun", sign("mailgun", now=NOW - 301))
    assert isinstance(late, Refused)
    assert late.reason is Reason.STALE
    verdict = ask("mailgun", sign("mailgun"))
    assert verdict.event_id == "0123456789" * 5
    assert not Mailgun(secret=given(KEY)).signs_body


@pytest.mark.parametrize("token", ["", "0" * 49, "0" * 51, "x" * 50, "0" * 50])
def test_a_mailgun_token_has_one_form(token):
    signature = mac(seconds(NOW) + token.encode()).hex()
    body = f'{{"signature":{{"timestamp":"{int(NOW)}","token":"{token}","signature":"{signature}"}}}}'
    assert isinstance(ask("mailgun", post(body.encode())), Verified) is (token == "0" * 50)


def test_mailguns_time_and_token_have_one_border():
    request = sign("mailgun")
    recut = request.body.replace(b'"1700000000"', b'"170000000"').replace(b'"token": "0', b'"token": "00')
    assert recut != request.body
    assert isinstance(ask("mailgun", with_body(request, recut)), Refused)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"signature":1}', b'{"signature":{}}', b"\xff", b'{"signature":' * 9_999]
)
def test_a_mailgun_body_of_any_kind_raises_nothing(body):
    assert isinstance(ask("mailgun", post(body)), Refused)


# --- gidgethub, dj-stripe, Convoy, Trigger.dev


@pytest.mark.parametrize("secret", [None, [], "", "plain text", lambda: "", lambda: "  ", list, lambda: [""]])
def test_there_is_no_way_to_accept_what_is_not_signed(secret):
    with pytest.raises(SettingsError, match="secret"):
        GitHub(secret=secret).check()


def test_githubs_sha1_signature_counts_for_nothing():
    request = post(b"{}", x_hub_signature=b"sha1=" + hexed(mac(b"{}", KEY, "sha1")))
    assert isinstance(ask("github", request), Refused)


def test_no_header_replaces_the_secret():
    request = SAMPLES["stripe"].sign(b"{}", NOW, "attacker's")
    more = [(b"x-djstripe-webhook-secret", b"attacker's"), (b"authorization", b"attacker's")]
    assert isinstance(ask("stripe", Request(headers=[*request.headers, *more], body=b"{}")), Refused)


def test_nothing_of_the_body_is_looked_at_before_it_is_authentic(monkeypatch):
    def looked(*_args):
        raise AssertionError("looked at the body")

    monkeypatch.setattr("consumer.webhooks.reader.member", looked)
    for name in SAMPLES:
        if name in {"mailgun", "twilio"}:  # what they sign has to be read out of the body
            continue
        monkeypatch.setattr(signed, "split", looked)
        request = sign(name)
        broken = changed(request, SAMPLES[name].signature, value_of(request, SAMPLES[name].signature)[:-2])
        assert isinstance(ask(name, broken), Refused)
    with pytest.raises(AssertionError, match="looked"):  # the spy does see an authentic one
        ask("stripe", sign("stripe"))


def test_secrets_are_compared_in_constant_time_only():
    """Nothing in a signer's `accepts` compares with `==`, apart from lengths, which are public."""
    for signer in (signers.HmacSigner, signers.TokenSigner, signers.Ed25519Signer):
        tree = ast.parse(textwrap.dedent(inspect.getsource(signer.accepts)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                assert ast.unparse(node).startswith("len("), ast.unparse(node)
    assert "compare_digest" in inspect.getsource(signers.HmacSigner.accepts)
    assert "compare_digest" in inspect.getsource(signers.TokenSigner.accepts)


def test_a_signed_type_is_not_taken_from_an_unsigned_header():
    request = sign("github")
    verdict = ask("github", changed(request, "x-github-event", b"push"))
    assert verdict.items[0].event_id == "delivery-1"
    assert ("x-github-event", b"push") in verdict.headers  # kept for people; nothing here decides by it


def test_an_array_as_a_body_is_an_event_like_any_other():
    body = b'[{"id":1}]'
    verdict = ask("github", sign("github", body))
    assert verdict.items[0].value == body


def test_slack_retries_while_the_first_attempt_runs_are_one_event():
    provider = Slack(secret=given(KEY))
    request = sign("slack")
    again = Request(headers=[*request.headers, (b"x-slack-retry-num", b"1")], body=request.body)
    assert accepted(provider, request).event_id == accepted(provider, again).event_id == "evt_1"
    assert StandardWebhooks(secret=given(WHSEC)).retry_horizon == 75 * 3600 + 35 * 60 + 5


@pytest.mark.parametrize("event_id", [b"", b"a b", b"\xff", b"x" * 256, b"a\n"])
@pytest.mark.parametrize("name", ["github", "shopify", "twilio"])
def test_an_unsigned_id_that_is_none_is_refused(name, event_id):
    place = SAMPLES[name].provider().row.event_id.name
    verdict = ask(name, changed(sign(name), place, event_id))
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.MALFORMED


@pytest.mark.parametrize("name", ["github", "shopify", "twilio", "gitlab"])
def test_an_unsigned_id_that_occurs_twice_is_refused(name):
    place = SAMPLES[name].provider().row.event_id.name
    request = sign(name)
    twice = Request(headers=[*request.headers, (place.encode(), b"delivery-2")], body=request.body)
    verdict = ask(name, twice)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.DUPLICATE
