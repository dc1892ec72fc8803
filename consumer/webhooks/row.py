"""The shape of a provider's row. A provider is data; code stands beside it only where data cannot say it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from consumer.webhooks.encoding import Encoding
from consumer.webhooks.signers import Algorithm, SecretForm
from consumer.webhooks.template import Template
from consumer.webhooks.values import Reason

__all__ = ["ANY_ID", "Place", "Row", "Signature", "Timestamp"]

ANY_ID = r"[!-~]{1,255}"
"""A name in a header: visible ASCII, as long as a key may be."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands.

    Attributes:
        where: a header, a member of the body's JSON, or a pair of the signature header (`t=…`).
        name: the header's, or the member's (`signature.token`: nested).
        pattern: what it must be, whole.
    """

    where: Literal["header", "body", "pair"]
    name: str
    pattern: str = ANY_ID


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Where the time of sending stands, in digits since 1970.

    Attributes:
        place: `Place.pattern` is not looked at: it is digits, of a length that is always the same these centuries.
        unit: seconds or milliseconds.
    """

    place: Place
    unit: Literal["s", "ms"] = "s"


@dataclass(frozen=True, slots=True)
class Signature:
    """Where the signatures stand.

    Attributes:
        name: the header's; for `body` the JSON member's.
        layout: `plain`: a prefix and one signature; `pairs`: `t=1,v1=a,v1=b`; `versions`: `v1,a v1,b v1a,c`;
            `body`: a member of the JSON body.
        prefix: of `plain`.
        separator: of `pairs`.
        key: which pairs are signatures.
    """

    name: str
    layout: Literal["plain", "pairs", "versions", "body"] = "plain"
    prefix: str = ""
    separator: str = ","
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One provider.

    Attributes:
        name: `Message.source`.
        title: for people.
        signature: where it stands.
        signed: what is signed, as a template of `{id}`, `{timestamp}`, `{body}`, `{url}`, `{method}`, `{params}`;
            empty: nothing is (a token).
        algorithm, encoding, secret: how.
        timestamp: `None`: there is none, and a captured request never grows stale.
        event_id: `None`: there is none.
        event_id_signed: the name is within what is signed.
        item_fields: the body is a JSON array, and these members name an element together.
        prefixes: of all header names; the first whose headers occur is used for all of them.
        accepted: the status for stored, and for known already.
        refused, malformed: the statuses for what is not authentic, and for what cannot be read.
        keeps: headers that are worth keeping, beside `content-type`.
        answer_within: seconds that the provider waits; `None`: not published.
        retry_horizon: seconds from the first attempt to the last; `None`: not known.
        retries: for people.
        note: for people.
    """

    name: str
    title: str
    signature: Signature
    signed: str = "{body}"
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    secret: SecretForm = SecretForm.TEXT
    timestamp: Timestamp | None = None
    event_id: Place | None = None
    event_id_signed: bool = False
    item_fields: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    accepted: int = 200
    refused: int = 401
    malformed: int = 400
    keeps: tuple[str, ...] = ()
    answer_within: float | None = None
    retry_horizon: float | None = None
    retries: str = "not published"
    note: str = ""

    @cached_property
    def template(self) -> Template:
        """What is signed, ready to be filled."""
        return Template(self.signed)

    @property
    def signs_body(self) -> bool:
        """The signature covers the body, or what the body means (`{params}`)."""
        return not self.template.fields.isdisjoint({"body", "params"})

    def status(self, reason: Reason) -> int:
        """Return the status that this provider is to see."""
        return self.malformed if reason is Reason.MALFORMED else self.refused
