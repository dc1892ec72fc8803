"""Several secrets at once, secrets that expire, secrets that change while the process runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.errors import SettingsError
from consumer.settings import Secret
from consumer.webhooks import GitHub, Provider, StandardWebhooks, Stripe, Until, Verified, signers
from consumer.webhooks.rotation import REREAD

from .samples import KEY, NOW, SAMPLES, WHSEC, ed25519_public, given

OTHER = "another-secret"


def index(provider: Provider, key: str, now: float = NOW) -> int | None:
    verdict = provider.verify(SAMPLES["github"].sign(b"{}", now, key), now)
    return verdict.secret_index if isinstance(verdict, Verified) else None


def test_a_variable_may_hold_several_separated_by_blanks(monkeypatch):
    monkeypatch.setenv("HOOK", f" {OTHER}  {KEY}\n")
    provider = GitHub(secret=Secret.env("HOOK"))
    assert [index(provider, key) for key in (OTHER, KEY, f"{OTHER}  {KEY}", "wrong-secret")] == [
        0,
        1,
        None,
        None,
    ]


def test_a_single_secret_may_be_short(monkeypatch):
    monkeypatch.setenv("HOOK", "12345")
    assert index(GitHub(secret=Secret.env("HOOK")), "12345") == 0


def test_a_secret_with_blanks_does_not_fall_apart_into_words(monkeypatch):
    monkeypatch.setenv("HOOK", "It's a Secret to Everybody")
    with pytest.raises(SettingsError, match="HOOK holds several") as raised:
        GitHub(secret=Secret.env("HOOK")).check()
    assert "Everybody" not in str(raised.value)
    assert index(GitHub(secret=given("It's a Secret to Everybody")), "It's a Secret to Everybody") == 0


def test_a_list_counts_on_over_its_sources(monkeypatch, tmp_path):
    monkeypatch.setenv("HOOK", "first-one second-one")
    (tmp_path / "hook").write_text(KEY + "\n")
    provider = GitHub(secret=[Secret.env("HOOK"), Secret.file(str(tmp_path / "hook")), lambda: OTHER])
    assert [index(provider, key) for key in ("first-one", "second-one", KEY, OTHER)] == [0, 1, 2, 3]


def test_an_old_secret_counts_until_its_moment_and_keeps_the_positions(monkeypatch):
    monkeypatch.setenv("OLD", OTHER)
    until = Until(Secret.env("OLD"), datetime.fromtimestamp(NOW, UTC))
    provider = GitHub(secret=[until, given(KEY)])
    assert index(provider, OTHER, NOW - 1) == 0
    assert index(provider, OTHER, NOW) is None
    assert index(provider, KEY, NOW) == 1


def test_when_all_have_expired_it_is_a_fault_of_the_settings_not_of_the_sender(monkeypatch):
    monkeypatch.setenv("OLD", OTHER)
    provider = GitHub(secret=Until(Secret.env("OLD"), datetime.fromtimestamp(NOW, UTC)))
    with pytest.raises(SettingsError, match="expired"):
        provider.verify(SAMPLES["github"].sign(b"{}", NOW, OTHER), NOW)


def test_an_expiry_without_a_time_zone_is_refused():
    with pytest.raises(SettingsError, match="time zone"):
        GitHub(secret=Until(Secret.env("OLD"), datetime(2026, 1, 1)))  # noqa: DTZ001 - what is refused


def test_a_changed_file_counts_soon(tmp_path):
    file = tmp_path / "hook"
    file.write_text(OTHER)
    provider = GitHub(secret=Secret.file(str(file)))
    assert index(provider, OTHER) == 0
    file.write_text(KEY)
    assert index(provider, KEY, NOW + REREAD - 1) is None
    assert index(provider, KEY, NOW + REREAD) == 0
    assert index(provider, OTHER, NOW + REREAD) is None


def test_a_clock_that_goes_back_reads_again(tmp_path):
    file = tmp_path / "hook"
    file.write_text(OTHER)
    provider = GitHub(secret=Secret.file(str(file)))
    assert index(provider, OTHER) == 0
    file.write_text(KEY)
    assert index(provider, KEY, NOW - 1) == 0


def test_a_secret_that_is_not_there_stops_the_start(monkeypatch):
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(SettingsError, match="HOOK is not set"):
        Stripe(secret=Secret.env("HOOK")).check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("whsec_***", "whsec_ and base64"),
        ("whsec_", "whsec_ and base64"),
        ("whpk_AAAA", "whpk_ and 32 bytes"),
        ("whsk_AAAA", "private"),
        ("ключ", "whsec_ and base64"),
    ],
)
def test_a_malformed_standard_secret_stops_the_start_and_is_not_shown(text, message):
    with pytest.raises(SettingsError, match=message) as raised:
        StandardWebhooks(secret=given(text)).check()
    assert text not in str(raised.value) or text == "whsec_"


def test_a_lost_padding_of_a_secret_is_forgiven():
    padded = "whsec_" + "QUFBQUFBQUFBQUFBQUFBQQ=="
    request = SAMPLES["standard"].sign(b"{}", NOW, b"A" * 16)
    for text in (padded, padded.rstrip("=")):
        assert isinstance(StandardWebhooks(secret=given(text)).verify(request, NOW), Verified)


def test_without_the_package_ed25519_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"idempotent-consumer\[webhooks\]"):
        signers.signer("00" * 32, signers.SecretForm.HEX_PUBLIC, "ed25519")
    assert isinstance(
        StandardWebhooks(secret=given(WHSEC)).verify(SAMPLES["standard"].sign(b"{}"), NOW), Verified
    )


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_a_discord_key_is_64_digits(text):
    with pytest.raises(SettingsError):
        SAMPLES["discord"].provider(text).check()
    SAMPLES["discord"].provider(ed25519_public().hex().upper()).check()
