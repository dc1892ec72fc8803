"""A response as the result of a key: how it is stored, and what its replay is."""

from __future__ import annotations

import msgspec

from consumer.http.answer import Answer, Pairs
from consumer.http.problem import problem

__all__ = ["Recorded", "replay_of"]

_REPLAYED = (b"idempotent-replayed", b"true")


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form, JSON: people read it with `consumer inbox show`, and write it with `inbox resolve --result`.

    Attributes:
        status: the HTTP status.
        headers: names and values; bytes beyond ASCII as ISO 8859-1.
        text: the body where it is UTF-8.
        body: the body where it is not (base64 in JSON).
        stub: the body was not stored.
        v: of this form.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    body: bytes | None = None
    stub: bool = False
    v: int = 1

    @staticmethod
    def of(status: int, headers: Pairs, body: bytes) -> Recorded:
        """Return a response as it is stored."""
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        try:
            return Recorded(status, fields, text=body.decode())
        except UnicodeDecodeError:
            return Recorded(status, fields, body=body)

    def answer(self) -> Answer:
        """Return the response that it was made of, byte for byte."""
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers)
        body = self.text.encode() if self.text is not None else self.body or b""
        return Answer(self.status, body, headers)


_decoder = msgspec.json.Decoder(Recorded)


def replay_of(result: bytes | None) -> Answer:
    """Return what a caller is told whose key is done: the stored response, or the problem that it was not stored.

    Args:
        result: of the entry; `None` where somebody has resolved it without one.
    """
    try:
        recorded = None if result is None else _decoder.decode(result)
    except msgspec.MsgspecError:
        recorded = None  # somebody has resolved the entry with a result of another form
    if recorded is None:
        answer = problem("response-not-stored")
    elif recorded.stub:
        answer = problem("response-not-stored", f"it was a {recorded.status}, too large to be stored")
    else:
        answer = recorded.answer()
    return answer.with_headers(_REPLAYED)
