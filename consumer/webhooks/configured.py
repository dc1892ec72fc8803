"""A provider of your own: an HMAC row made of arguments."""

from __future__ import annotations

import re
from typing import Literal

from consumer.errors import SettingsError
from consumer.webhooks.makers import checked_tolerance
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.row import Place, Row, Signature, Timestamp
from consumer.webhooks.signed import TOLERANCE, SignedProvider
from consumer.webhooks.urls import checked_url

__all__ = ["Hmac"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")


def Hmac(  # noqa: N802
    *,
    name: str,
    secret: Secrets,
    header: str,
    signed: str = "{body}",
    prefix: str = "",
    encoding: Literal["hex", "base64"] = "hex",
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256",
    timestamp_header: str | None = None,
    timestamp_unit: Literal["s", "ms"] = "s",
    id_header: str | None = None,
    id_field: str | None = None,
    url: str = "",
    keeps: tuple[str, ...] = (),
    tolerance: float = TOLERANCE,
    guard: bool = True,
    retry_horizon: float | None = None,
) -> SignedProvider:
    """Return a provider that signs with an HMAC in a header.

    Args:
        name: `Message.source`.
        secret: see `Maker`.
        header: where the signature stands.
        signed: what is signed, of `{id}`, `{timestamp}`, `{body}`, `{url}`, `{method}`; the body must be.
        prefix: before the signature, e.g. `sha256=`.
        encoding: of the signature.
        algorithm: of the HMAC.
        timestamp_header: where the time of sending stands; counts only where `{timestamp}` is signed.
        timestamp_unit: seconds or milliseconds since 1970.
        id_header: where the event's id stands; proves something only where `{id}` is signed.
        id_field: or the body's member that holds it (`data.id`).
        url: the endpoint's public address, where `{url}` is signed.
        keeps: headers worth keeping, beside `content-type`.
        tolerance: seconds that a timestamp may lie off, past or future.
        guard: tell replays apart by a digest of the body where the id is not signed.
        retry_horizon: seconds for which the provider repeats, where it is known.

    Raises:
        SettingsError: the arguments do not fit together; the text says which.
    """
    headers = tuple(
        each.lower() for each in (header, timestamp_header, id_header, *keeps) if each is not None
    )
    _check(name, headers)
    if id_header is not None and id_field is not None:
        raise SettingsError(f"{name}: give id_header= or id_field=, not both")
    row = Row(
        name=name,
        title=name,
        signature=Signature(header.lower(), prefix=prefix),
        signed=signed,
        algorithm=algorithm,
        encoding=encoding,
        timestamp=Timestamp(Place("header", timestamp_header.lower()), timestamp_unit)
        if timestamp_header
        else None,
        event_id=_place(id_header, id_field),
        event_id_signed=id_field is not None or (id_header is not None and "{id}" in signed),
        keeps=tuple(each.lower() for each in keeps),
        retry_horizon=retry_horizon,
    )
    fields = row.template.fields
    for field, given in (("timestamp", timestamp_header), ("id", id_header), ("url", url)):
        if field in fields and not given:
            raise SettingsError(f"{name}: {{{field}}} is signed, and nothing says where it is")
    if row.template.id_touches:
        raise SettingsError(
            f"{name}: signed={signed!r}: {{id}} touches another field; put a character between them"
        )
    if "body" not in fields or "params" in fields:
        raise SettingsError(f"{name}: signed={signed!r}: {{body}} must be signed")
    if timestamp_header and "timestamp" not in fields:
        raise SettingsError(f"{name}: an unsigned timestamp proves nothing; leave timestamp_header= out")
    return SignedProvider(
        row=row,
        rotation=Rotation(secret, row.secret, algorithm),
        url=checked_url(url, name) if url else "",
        tolerance=checked_tolerance(tolerance),
        guarded=guard,
    )


def _check(name: str, headers: tuple[str, ...]) -> None:
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"name={name!r}: 1-32 small letters, digits, - and _ are expected, a letter first"
        )
    for each in headers:
        if not _HEADER.fullmatch(each):
            raise SettingsError(f"{name}: {each!r} is no header's name")
        if each in {"authorization", "cookie"}:
            raise SettingsError(
                f"{name}: {each} holds credentials of other kinds; it is not read and not kept"
            )


def _place(header: str | None, field: str | None) -> Place | None:
    if header is not None:
        return Place("header", header.lower())
    return Place("body", field) if field is not None else None
