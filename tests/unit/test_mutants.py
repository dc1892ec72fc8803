"""The mutants' own machinery: the rows fit the tree, and nothing but a failed assertion counts as noticed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.mutants.table import Edit, Mutant, Stale, chosen, drawn, load
from tests.mutants.tree import ROOT, copied, planted
from tests.mutants.trial import run_tests, try_mutant

FILE = "consumer/rules/watermark.py"
FIND = "            self.position = first + 1\n"
TEST = "tests/unit/test_watermark.py::test_the_mark_is_monotone_and_never_passes_what_is_unfinished"
OTHER = "tests/unit/test_watermark.py::test_offsets_come_in_rising_order[5]"


def mutant(replace: str, *tests: str, find: str = FIND) -> Mutant:
    return Mutant("m", "a promise", tests, FILE, find, replace)


@pytest.mark.parametrize("row", load(), ids=lambda row: row.name)
def test_every_row_fits_the_tree(row):
    """A row that does not is mended together with the code that it is about: find the new text, or the new defence."""
    texts = {edit.file: (ROOT / edit.file).read_text(encoding="utf-8") for edit in row.edits}
    for edit in row.edits:
        texts[edit.file] = edit.applied(texts[edit.file])
    for file, text in texts.items():
        if file.endswith(".py"):  # a Redis script: its server compiles it
            compile(text, file, "exec")
    for test in row.tests:
        file, _, rest = test.partition("::")
        name = rest.partition("[")[0]
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{test} is not there any more"


@pytest.mark.parametrize(
    ("find", "replace", "text", "why"),
    [
        ("gone", "x", "here", "'gone' … is there 0 times, not once"),
        ("a", "x", "a a", "'a' … is there 2 times, not once"),
        ("a", "a", "a", "the replacement is the text itself"),
    ],
)
def test_a_row_that_does_not_fit_says_so(find, replace, text, why):
    with pytest.raises(Stale, match=why):
        Edit("f.py", find, replace).applied(text)


def test_a_name_that_no_mutant_has():
    with pytest.raises(Stale, match="no mutant is called 'nobody'"):
        chosen(load(), ["nobody"])
    assert {row.name.partition(":")[0] for row in chosen(load(), ["sqlite: *"])} == {"sqlite"}


def test_a_draw_is_repeatable_and_every_row_has_its_turn():
    rows = load()
    draws = [drawn(rows, 3, seed) for seed in ("a", "a", *map(str, range(40)))]
    assert draws[0] == draws[1] != draws[2]
    assert {len(draw) for draw in draws} == {-(-len(rows) // 3)}
    assert {row.name for draw in draws for row in draw} == {row.name for row in rows}
    assert drawn(rows, 1, "a") == rows


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("mutants") / "tree")


@pytest.mark.parametrize(
    ("replace", "test", "caught", "says"),
    [
        ("            self.position = first + 2\n", TEST, True, "never_passes_what_is_unfinished"),
        ("            self.position = first + 2\n", OTHER, False, "SURVIVED"),
        ("            self.position = first + 'x'\n", TEST, False, "not by an assertion: .* TypeError"),
        ("            self.position =\n", TEST, False, "stale: .* is no Python"),
    ],
    ids=["noticed", "survives", "falls over", "no Python"],
)
def test_what_becomes_of_a_mutant(tree, replace, test, caught, says):
    before = (tree / FILE).read_bytes()
    result = try_mutant(tree, mutant(replace, test), os.environ)
    assert result.caught is caught, result
    assert re.search(says, result.text), result
    assert (tree / FILE).read_bytes() == before, "the copy is as it was"
    assert (ROOT / FILE).read_bytes() == before, "the tree was never touched"


def test_a_mutant_that_cannot_be_imported_is_none(tree):
    broken = mutant("import nothing_of_this_name\n\n__all__", TEST, find="__all__")
    with planted(broken.edits, tree):
        [ended] = run_tests(tree, broken.tests, os.environ, broken)
    assert (ended.how, "nothing_of_this_name" in ended.why) == ("no import", True)


def test_a_test_that_is_not_there_any_more_is_missed(tree):
    ended = run_tests(tree, [TEST, "tests/unit/test_watermark.py::test_gone"], os.environ)
    assert sorted(one.how for one in ended) == ["missing", "passed"]
