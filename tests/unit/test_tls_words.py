"""TLS that cannot be had is told apart from a server that is away; the parameter that mends it is named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from consumer.tls import refused, unreadable


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1006)", "host's name and ca"),
        ("no primary: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert (_ssl.c:2580)", "check mine"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "check mine"),
        ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate (_ssl.c:2580)", "check mine"),
        ("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1006)", "in common"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1006)", "or it wants mine"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "does not speak TLS"),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)", None),
        ("[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error (_ssl.c:1006)", None),
        ("Connect call failed ('127.0.0.1', 6379)", None),
    ],
)  # fmt: skip
def test_what_a_refusal_says(text: str, says: str | None) -> None:
    found = refused(ssl.SSLError(1, text), authorities="ca", own="mine")
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert says in found
        assert "_ssl.c" not in found


def test_a_driver_may_hide_it_in_the_cause() -> None:
    hidden = ConnectionError("connection was closed in the middle of operation")
    hidden.__cause__ = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)")
    assert "check mine" in (refused(hidden, authorities="ca", own="mine") or "")


def test_files_are_tried_before_a_driver_speaks_of_a_server_that_is_away(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, own, key = tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(str(ca))
    issued = authority.issue_cert("client")
    issued.private_key_and_cert_chain_pem.write_to_path(str(own))
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(str(key))

    def words(**files: object) -> str | None:
        given = {name: str(path) for name, path in files.items()}
        return unreadable(given, authorities="ca", certificate="own", key="key")

    assert words() is None
    assert words(ca=ca, own=own) is None
    assert words(ca=ca, own=own, key=own) is None
    assert "ca='/nowhere/ca.pem' cannot be read: No such file" in (words(ca="/nowhere/ca.pem") or "")
    assert "key='/nowhere/k.pem' cannot be read" in (words(own=own, key="/nowhere/k.pem") or "")
    assert "cannot be read: Is a directory" in (words(ca=tmp_path) or "")
    assert "holds no certificates in PEM form" in (words(ca=key) or "")
    assert "no certificate with its key" in (words(own=ca) or "")
    assert f"own={str(own)!r} and key={str(key)!r}: no certificate" in (words(own=own, key=key) or "")
