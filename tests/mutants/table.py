"""Mutants as data: the rows of the `*.toml` files beside this module."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["Edit", "Mutant", "Stale", "chosen", "drawn", "load"]

_HERE = Path(__file__).parent


class Stale(Exception):
    """A row does not fit the tree any more: the text says which, and what to do."""


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of one file.

    Attributes:
        file: from the root of the tree.
        find: exact text that occurs once in it.
        replace: what stands there in the mutant.
    """

    file: str
    find: str
    replace: str

    def applied(self, text: str) -> str:
        """Return the file's text with the mutation.

        Raises:
            Stale: `find` does not occur exactly once, or nothing changes.
        """
        times = text.count(self.find)
        if times != 1:
            first = self.find.strip().splitlines()[0]
            raise Stale(
                f"{self.file}: {first!r} … is there {times} times, not once; the code has changed, so the row must"
            )
        if self.find == self.replace:
            raise Stale(f"{self.file}: the replacement is the text itself")
        return text.replace(self.find, self.replace)

    @property
    def module(self) -> str:
        """The dotted name of the file, as Python imports it."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to break the product.

    Attributes:
        name: what it is; a store's own ones begin with the store.
        breaks: the promise that does not hold any more, for people.
        tests: node ids, the fastest first; one of them must fail by an assertion.
        file, find, replace: the change; see `Edit`.
        also: further changes, where one alone is caught by a second line of defence.
    """

    name: str
    breaks: str
    tests: tuple[str, ...]
    file: str
    find: str
    replace: str
    also: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All changes, in order."""
        return (Edit(self.file, self.find, self.replace), *self.also)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load(folder: Path = _HERE) -> list[Mutant]:
    """Return all rows, file by file.

    Raises:
        Stale: two rows have one name, or a row has no test.
    """
    mutants: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        mutants += msgspec.toml.decode(path.read_bytes(), type=_File).mutant
    names = [mutant.name for mutant in mutants]
    for name in set(names):
        if names.count(name) > 1:
            raise Stale(f"two mutants are called {name!r}")
    for mutant in mutants:
        if not mutant.tests:
            raise Stale(f"{mutant.name}: no test must fail")
    return mutants


def chosen(mutants: Sequence[Mutant], patterns: Sequence[str]) -> list[Mutant]:
    """Return the mutants whose names match one of `patterns` (as file names do), all of them when there is none.

    Raises:
        Stale: a pattern matches nothing.
    """
    if not patterns:
        return list(mutants)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(mutant.name, pattern) for mutant in mutants):
            raise Stale(f"no mutant is called {pattern!r}; --list names them")
    return [m for m in mutants if any(fnmatch.fnmatchcase(m.name, pattern) for pattern in patterns)]


def drawn(mutants: Sequence[Mutant], one_in: int, seed: str) -> list[Mutant]:
    """Return one in `one_in` mutants, in their order: which ones, the seed alone decides."""

    def lot(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.name}".encode()).digest()

    count = -(-len(mutants) // one_in)
    lots = sorted(lot(mutant) for mutant in mutants)[:count]
    return [mutant for mutant in mutants if lot(mutant) in lots]
