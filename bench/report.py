"""The table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

__all__ = ["Line", "table"]


class Line(NamedTuple):
    """A contestant's medians.

    Attributes:
        title: who.
        rate: messages a second.
        ratio: to the contestant that it is compared with.
        beside: the name of that one; empty for those that others are compared with.
        cpu: microseconds of client CPU per message.
        slowest, fastest: messages a second of single runs.
    """

    title: str
    rate: float
    ratio: float
    beside: str
    cpu: float
    slowest: float
    fastest: float


def table(lines: Sequence[Line], machine: str, rounds: int, duplicates: float) -> None:
    """Print the table, and what it was measured on."""
    shown = Table(
        title=f"{duplicates:.0%} duplicates, medians of {rounds} interleaved runs", title_justify="left"
    )
    shown.add_column("who")
    for name in ("messages/s", "slowest - fastest", "ratio", "client CPU, µs"):
        shown.add_column(name, justify="right")
    for line in lines:
        ratio = f"{line.ratio:.2f} of {line.beside}" if line.beside else "1"
        spread = f"{line.slowest:,.0f} - {line.fastest:,.0f}"
        shown.add_row(line.title, f"{line.rate:,.0f}", spread, ratio, f"{line.cpu:.0f}")
    console = Console(width=None if Console().is_terminal else 120)
    console.print(shown)
    console.print(machine, highlight=False, soft_wrap=True)
