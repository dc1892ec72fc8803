"""The table of providers as text for people; `docs/webhooks.md` is generated from it."""

from __future__ import annotations

from consumer.webhooks.row import Row
from consumer.webhooks.signed import TOLERANCE
from consumer.webhooks.table import ROWS

__all__ = ["guarantee", "table"]

_COLUMNS = (
    "provider",
    "signature",
    "what is signed",
    "timestamp",
    "tolerance",
    "event id",
    "id signed",
    "answer within",
    "retries",
    "guarantee",
    "note",
)


def table() -> str:
    """Return all rows as a Markdown table."""
    lines = [_line(_COLUMNS), _line(("---",) * len(_COLUMNS))]
    lines += [_line(_cells(row)) for row in ROWS]
    return "\n".join(lines)


def guarantee(row: Row) -> str:
    """Return what the scheme lets us promise about a repeated or replayed delivery."""
    if row.algorithm == "token":
        return "the sender is known, nothing else: who has seen one delivery can send any"
    if not row.signs_body:
        return "a delivery counts once; its body is not proven"
    if row.event_id_signed and row.timestamp is not None:
        return "a replay is stale after the tolerance, and a duplicate by its id at any time"
    if row.event_id_signed:
        return "a replay is a duplicate by its id, however late, within the retention"
    fresh = "a replay is stale after the tolerance; before, " if row.timestamp is not None else ""
    which = "a new id is caught by" if row.event_id is not None else "repetitions are known by"
    what = "the signed parameters" if "params" in row.template.fields else "the body"
    return f"{fresh}{which} the digest of {what} (guard), within the retention"


def _cells(row: Row) -> tuple[str, ...]:
    prefix = row.prefixes[0]
    signature = f"`{prefix}{row.signature.name}` {_layout(row)}".rstrip()
    place = row.timestamp.place if row.timestamp is not None else None
    unit = "" if row.timestamp is None or row.timestamp.unit == "s" else " (ms)"
    return (
        f"**{row.title}**",
        f"{signature}, {_algorithm(row)}",
        f"`{row.signed}`" if row.signed else "nothing",
        "none"
        if place is None
        else f"{place.where} `{prefix if place.where == 'header' else ''}{place.name}`{unit}",
        "—" if place is None else f"{TOLERANCE:g} s",
        _event_id(row, prefix),
        "—" if row.event_id is None and not row.item_fields else "yes" if row.event_id_signed else "**no**",
        "not published" if row.answer_within is None else f"{row.answer_within:g} s",
        row.retries,
        guarantee(row),
        row.note,
    )


def _layout(row: Row) -> str:
    if row.signature.layout == "pairs":
        return f"(`{row.signature.key}=`)"
    if row.signature.layout == "body":
        return "in the body"
    return f"(`{row.signature.prefix}`)" if row.signature.prefix else ""


def _algorithm(row: Row) -> str:
    if row.algorithm == "token":
        return "a token"
    name = row.algorithm if row.algorithm == "ed25519" else f"HMAC-{row.algorithm.upper()}"
    return f"{name}, {row.encoding}"


def _event_id(row: Row, prefix: str) -> str:
    if row.name == "cloudevents":
        return "`source` and `id`"
    if row.item_fields:
        return "of each element: " + ", ".join(f"`{name}`" for name in row.item_fields)
    if row.event_id is None:
        return "none"
    place = row.event_id
    return f"{place.where} `{prefix if place.where == 'header' else ''}{place.name}`"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
