"""What a secret is made into: something that accepts or refuses a signature, in a time that tells nothing about it."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from consumer.errors import SettingsError
from consumer.webhooks.encoding import from_hex

__all__ = ["Algorithm", "Ed25519Signer", "HmacSigner", "SecretForm", "Signer", "TokenSigner", "signer"]

Algorithm = Literal["sha256", "sha1", "sha512", "ed25519", "token"]
"""HMAC over a digest, ed25519, or a token that the sender shows as it is."""

_PUBLIC_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class SecretForm(enum.StrEnum):
    """How the text of a secret becomes a key."""

    TEXT = "the text itself, as UTF-8"
    STANDARD = "whsec_ and base64 (HMAC), or whpk_ and base64 (ed25519)"
    HEX_PUBLIC = "a public key in hexadecimal"


class Signer(Protocol):
    """One secret at work."""

    @property
    def version(self) -> str:
        """Which signatures of a versioned list are its own (`v1`, `v1a`); empty where lists are not versioned."""
        ...

    def accepts(self, content: bytes, signatures: Sequence[bytes]) -> bool:
        """Whether one of the signatures is right for the content."""
        ...


@dataclass(frozen=True, slots=True)
class HmacSigner:
    """A shared secret."""

    key: bytes = field(repr=False)
    digest: str
    version: str = ""

    def sign(self, content: bytes) -> bytes:
        """Return the content's HMAC."""
        return hmac.digest(self.key, content, self.digest)

    def accepts(self, content: bytes, signatures: Sequence[bytes]) -> bool:
        """Compare bytes with bytes, all of them: `compare_digest` raises for text that is not ASCII."""
        expected = self.sign(content)
        found = False
        for signature in signatures:
            found |= hmac.compare_digest(expected, signature)
        return found


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """A secret that the sender shows: it proves who sends, and nothing about what was sent."""

    token: bytes = field(repr=False)
    version: str = ""

    def accepts(self, content: bytes, signatures: Sequence[bytes]) -> bool:  # noqa: ARG002 - a signer's one signature
        """Compare digests, so that the time does not depend on the token's length either."""
        expected = hashlib.sha256(self.token).digest()
        found = False
        for shown in signatures:
            found |= hmac.compare_digest(expected, hashlib.sha256(shown).digest())
        return found


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """A public key."""

    public: bytes
    version: str = ""

    def accepts(self, content: bytes, signatures: Sequence[bytes]) -> bool:
        """Verify one after the other; public keys hold nothing that time could tell."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        key = Ed25519PublicKey.from_public_bytes(self.public)
        for signature in signatures:
            if len(signature) != _SIGNATURE_BYTES:
                continue
            try:
                key.verify(signature, content)
            except InvalidSignature:
                continue
            return True
        return False


def signer(text: str, form: SecretForm, algorithm: Algorithm) -> Signer:
    """Return the signer that a secret's text means.

    Args:
        text: the secret.
        form: how it is written.
        algorithm: what the provider signs with; Standard Webhooks' secrets bring their own.

    Raises:
        SettingsError: it is not written so; the text shows nothing of the secret.
    """
    if form is SecretForm.STANDARD:
        return _standard(text)
    if form is SecretForm.HEX_PUBLIC:
        return _ed25519(from_hex(text.encode()), "", "64 hexadecimal digits")
    key = text.encode()
    return TokenSigner(key) if algorithm == "token" else HmacSigner(key, algorithm)


def _standard(text: str) -> Signer:
    if text.startswith("whsk_"):
        raise SettingsError(
            "a whsk_ key is the sender's private one and must not be here; give its whpk_ public key"
        )
    if text.startswith("whpk_"):
        return _ed25519(_base64_secret(text.removeprefix("whpk_")), "v1a", "whpk_ and 32 bytes in base64")
    key = _base64_secret(text.removeprefix("whsec_"))
    if not key:
        raise SettingsError("whsec_ and base64 are expected; a secret of another kind needs another provider")
    return HmacSigner(key, "sha256", "v1")


def _base64_secret(text: str) -> bytes | None:
    # Secrets are copied by people: a lost padding is forgiven here, and in signatures never.
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _ed25519(public: bytes | None, version: str, expected: str) -> Signer:
    if public is None or len(public) != _PUBLIC_KEY_BYTES:
        raise SettingsError(f"{expected} are expected")
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise SettingsError(
            'ed25519 signatures need a package that is not installed; pip install "idempotent-consumer[webhooks]"'
        ) from None
    return Ed25519Signer(public, version)
