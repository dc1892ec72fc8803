"""Twilio signs the address and the sorted form parameters, or the address with the digest of a JSON body in its query."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from consumer.errors import SettingsError
from consumer.webhooks.refusal import Refusal
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.signed import SignedProvider
from consumer.webhooks.table import BY_NAME
from consumer.webhooks.urls import checked_url
from consumer.webhooks.values import Reason, Request

__all__ = ["Twilio", "signed_contents"]

MOST_PARAMETERS = 1_000
_DIGEST = re.compile(rb"(?:^|&)bodySHA256=([0-9a-fA-F]{64})(?=&|$)")
_DEFAULT_PORTS = {"https": 443, "http": 80}


def signed_contents(request: Request, url: str) -> list[bytes]:
    """Return what Twilio may have signed: it writes the port of the address, or leaves it out, so all spellings count.

    Args:
        request: as it arrived; a body with a digest is checked against it.
        url: the public address, of configuration.

    Raises:
        Refusal: the digest is another's, or the body is neither a form nor covered by a digest.
    """
    query = "?" + request.query.decode("latin-1") if request.query else ""
    parameters = _parameters(request)
    return [spelling.encode("latin-1") + parameters for spelling in _spellings(url + query)]


def _parameters(request: Request) -> bytes:
    digests = _DIGEST.findall(request.query)
    if digests:
        own = hashlib.sha256(request.body).hexdigest().encode()
        if len(digests) > 1 or not hmac.compare_digest(own, digests[0].lower()):
            raise Refusal(Reason.MISMATCH, "bodySHA256 is not the digest of the body")
        return b""
    if not request.body:
        return b""
    try:
        # Strict: what is no pair would be skipped, and the address alone would vouch for a body that says anything.
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except ValueError:
        raise Refusal(Reason.MALFORMED, "the body is no form, and no bodySHA256 covers it") from None
    return "".join(name + value for name, value in sorted(set(pairs))).encode()


def _spellings(url: str) -> list[str]:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    name, colon, _ = host.rpartition(":")
    other = name if colon and not host.endswith("]") else f"{host}:{_DEFAULT_PORTS[parts.scheme]}"
    rest = url[url.index("//") + 2 + len(parts.netloc) :]
    return [f"{parts.scheme}://{spelling}{rest}" for spelling in (host, other)]


def Twilio(  # noqa: N802
    *, secret: Secrets, url: str, guard: bool = True, algorithm: Literal["sha1", "sha256"] = "sha1"
) -> SignedProvider:
    """Return the provider of Twilio's status callbacks. Calls that want TwiML want an answer with content: not these.

    Args:
        secret: the auth token, or a shared key.
        url: the public address as Twilio calls it, without the query.
        guard: tell replays apart by a digest of what is signed: the idempotency token's header is not.
        algorithm: `sha256` for shared keys.

    Raises:
        SettingsError: there is no secret, or the URL is none, or has a query.
    """
    row = BY_NAME["twilio"]
    if (
        "?" in url
    ):  # the digest of a body is read from the request's own query, so that one must be what is signed
        raise SettingsError(f"Twilio: url={url!r}: give it without its query")
    return SignedProvider(
        row=row,
        rotation=Rotation(secret, row.secret, algorithm),
        url=checked_url(url, row.title),
        guarded=guard,
        contents=signed_contents,
    )
