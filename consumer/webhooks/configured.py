"""A provider of your own: an HMAC row made of arguments."""

from __future__ import annotations

import re
from typing import Literal, TypedDict, Unpack

from consumer.errors import SettingsError
from consumer.webhooks.makers import checked_tolerance
from consumer.webhooks.rotation import Rotation, Secrets
from consumer.webhooks.row import Place, Row, Signature, Timestamp
from consumer.webhooks.signed import TOLERANCE, SignedProvider
from consumer.webhooks.urls import checked_url

__all__ = ["Hmac", "HmacOptions"]

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")


class HmacOptions(TypedDict, total=False):
    """What `Hmac` may be told besides.

    Attributes:
        signed: what is signed, of `{id}`, `{timestamp}`, `{body}`, `{url}`, `{method}`; default `{body}`, which must be.
        prefix: before the signature, e.g. `sha256=`.
        encoding: of the signature; default hexadecimal.
        algorithm: of the HMAC; default SHA-256.
        timestamp_header: where the time of sending stands; `{timestamp}` must be signed.
        timestamp_unit: seconds (default) or milliseconds since 1970.
        id_header: where the event's id stands; proves something only where `{id}` is signed.
        id_field: or the body's member that holds it (`data.id`).
        url: the endpoint's public address, where `{url}` is signed.
        keeps: headers worth keeping, beside `content-type`.
        tolerance: seconds that a timestamp may lie off, past or future; default 300.
        guard: tell replays apart by a digest of the body where the id is not signed; default yes.
        retry_horizon: seconds for which the provider repeats, where it is known.
    """

    signed: str
    prefix: str
    encoding: Literal["hex", "base64"]
    algorithm: Literal["sha256", "sha512", "sha1"]
    timestamp_header: str
    timestamp_unit: Literal["s", "ms"]
    id_header: str
    id_field: str
    url: str
    keeps: tuple[str, ...]
    tolerance: float
    guard: bool
    retry_horizon: float


def Hmac(*, name: str, secret: Secrets, header: str, **options: Unpack[HmacOptions]) -> SignedProvider:  # noqa: N802
    """Return a provider that signs with an HMAC in a header.

    Args:
        name: `Message.source`.
        secret: see `Maker`.
        header: where the signature stands.
        **options: see `HmacOptions`.

    Raises:
        SettingsError: the arguments do not fit together; the text says which.
    """
    row = _row(name, header, options)
    url = options.get("url", "")
    _check_signed(row, options)
    return SignedProvider(
        row=row,
        rotation=Rotation(secret, row.secret, row.algorithm),
        url=checked_url(url, name) if url else "",
        tolerance=checked_tolerance(options.get("tolerance", TOLERANCE)),
        guarded=options.get("guard", True),
    )


def _row(name: str, header: str, options: HmacOptions) -> Row:
    sent, id_header = options.get("timestamp_header"), options.get("id_header")
    id_field = options.get("id_field")
    keeps = tuple(each.lower() for each in options.get("keeps", ()))
    _check(name, (header.lower(), *(each.lower() for each in (sent, id_header) if each is not None), *keeps))
    if id_header is not None and id_field is not None:
        raise SettingsError(f"{name}: give id_header= or id_field=, not both")
    signed = options.get("signed", "{body}")
    return Row(
        name=name,
        title=name,
        signature=Signature(header.lower(), prefix=options.get("prefix", "")),
        signed=signed,
        algorithm=options.get("algorithm", "sha256"),
        encoding=options.get("encoding", "hex"),
        timestamp=Timestamp(Place("header", sent.lower()), options.get("timestamp_unit", "s"))
        if sent
        else None,
        event_id=_place(id_header, id_field),
        event_id_signed=id_field is not None or (id_header is not None and "{id}" in signed),
        keeps=keeps,
        retry_horizon=options.get("retry_horizon"),
    )


def _check_signed(row: Row, options: HmacOptions) -> None:
    fields = row.template.fields
    given = {"timestamp": "timestamp_header", "id": "id_header", "url": "url"}
    for field, option in given.items():
        if field in fields and not options.get(option):
            raise SettingsError(
                f"{row.name}: {{{field}}} is signed, and nothing says where it is; give {option}="
            )
    if row.template.id_touches:
        raise SettingsError(
            f"{row.name}: signed={row.signed!r}: {{id}} touches another field; put a character between them"
        )
    if "body" not in fields or "params" in fields:
        raise SettingsError(f"{row.name}: signed={row.signed!r}: {{body}} must be signed")
    if row.timestamp is not None and "timestamp" not in fields:
        raise SettingsError(f"{row.name}: an unsigned timestamp proves nothing; leave timestamp_header= out")


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
