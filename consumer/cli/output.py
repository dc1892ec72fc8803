"""Rows as a table, as JSON, or as a JSON line each. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import click
import msgspec

__all__ = ["candidates", "format_option", "printable", "say", "show_one", "show_rows", "table"]

_encode = msgspec.json.Encoder().encode

format_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "jsonl"]), default="table", help="How to print."
)


def say(line: str) -> None:
    """Print a line of a process that goes on whether somebody reads it or not."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(line)


def show_rows(rows: Sequence[dict[str, Any]], output: str, columns: Sequence[str]) -> None:
    """Print rows on stdout.

    Args:
        rows: every row with all its fields.
        output: `table` (only `columns`), `json` (one array) or `jsonl`.
        columns: what a table shows.
    """
    if output == "table":
        for line in table(rows, columns):
            click.echo(line)
    elif output == "jsonl":
        for row in rows:
            click.echo(_encode(row))
    else:
        body = b",\n".join(_encode(row) for row in rows)
        click.echo(b"[\n" + body + b"\n]" if rows else b"[]")


def show_one(row: dict[str, Any], output: str) -> None:
    """Print one object on stdout: a line per field, or as JSON."""
    if output == "jsonl":
        click.echo(_encode(row))
    elif output == "json":
        click.echo(msgspec.json.format(_encode(row), indent=2))
    else:
        width = max(len(name) for name in row)
        for name, value in row.items():
            if isinstance(value, list) and value:
                click.echo(f"{name}")
                for each in value:
                    click.echo(f"  {_line(each)}")
            else:
                click.echo(f"{name:<{width}}  {_cell(value)}")


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a table's lines: a head and a line per row; no rows, no lines."""
    if not rows:
        return []
    cells = [list(columns), *[[_cell(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def candidates(rows: Sequence[dict[str, Any]]) -> str:
    """Return the entries that a key could mean, for stderr."""
    return "\n".join(table(rows, ["handler", "tenant", "key", "state", "id"]))


def printable(text: str) -> str:
    """Return text with every character escaped that a terminal would act on."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name}={_cell(part)}" for name, part in value.items() if part is not None)
    return _cell(value)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value)
        case _:
            return printable(_encode(value).decode())
