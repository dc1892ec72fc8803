"""What goes wrong with TLS before a store is open, in words that name what mends it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

__all__ = ["refused", "unreadable"]

_OPENSSL = re.compile(r"\[SSL: (\w+)\] ([^(]*)")
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"}
"""What OpenSSL says where the first bytes of an answer are no TLS (its versions differ)."""


def refused(error: BaseException, *, authorities: str, own: str) -> str | None:
    """Return why TLS can never be had like this; `None`: it is no matter of TLS, or one that time may mend.

    Some drivers wrap OpenSSL's error and keep its text only, so the text decides, or its cause's.

    Args:
        error: as the driver raised it.
        authorities: the parameter of the URL that names who signs the server's certificate.
        own: the parameter that names our own certificate.
    """
    found = _OPENSSL.search(" ".join(f"{error} {error.__cause__ or ''}".split()))
    if found is None:
        return None
    code, words = found[1], found[2].strip()
    if code == "CERTIFICATE_VERIFY_FAILED":
        return f"the server's certificate is not accepted ({words}); check the host's name and {authorities}"
    if "_ALERT_" in code and ("CERTIFICATE" in code or code.endswith("_UNKNOWN_CA")):
        return f"the server does not accept our certificate ({words}); check {own}"
    if "_ALERT_" in code and code.endswith(("_PROTOCOL_VERSION", "_HANDSHAKE_FAILURE")):
        # Until TLS 1.2 this is also how a server asks for a certificate.
        return f"the server breaks off ({words}): no version or cipher in common, or it wants {own}"
    if code in _NO_TLS:
        return "the server does not speak TLS on this port"
    return None


def unreadable(files: Mapping[str, str], *, authorities: str, certificate: str, key: str) -> str | None:
    """Return what is wrong with the PEM files that a URL names; `None`: nothing.

    Args:
        files: paths by parameter.
        authorities: the parameter for who signs the server's certificate.
        certificate: the parameter for our own certificate.
        key: the parameter for its key.
    """
    for name, path in files.items():
        try:
            with open(path, "rb"):  # noqa: PTH123 - as OpenSSL will; its own words name no file
                pass
        except OSError as fault:
            return f"{name}={path!r} cannot be read: {fault.strerror or fault}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities in files:
        try:
            context.load_verify_locations(cafile=files[authorities])
        except OSError:
            return f"{authorities}={files[authorities]!r} holds no certificates in PEM form"
    if certificate in files:
        try:
            # A passphrase would be asked for on the terminal: an empty one is tried instead, and does not fit.
            context.load_cert_chain(files[certificate], files.get(key), password=lambda: "")
        except OSError:
            named = " and ".join(f"{name}={files[name]!r}" for name in (certificate, key) if name in files)
            return f"{named}: no certificate with its key (PEM, without a passphrase)"
    return None
