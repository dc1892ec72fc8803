"""Every cell of the promise table, written down here a second time: the table is the product."""

from __future__ import annotations

import pytest

from consumer.rules.backoff import Backoff
from consumer.rules.modes import MODES, AtLeastOnce, AtMostOnce, Outcome, Transactional, Verb, decide

# mode × outcome -> what the entry becomes, and the text for people (DESIGN.md §3, README)
TABLE = {
    ("Transactional", "returned"): ("done", "done"),
    ("Transactional", "Retry"): ("waiting", "rolled back, waiting"),
    ("Transactional", "Reject"): ("dead", "rolled back, dead"),
    ("Transactional", "anything else raised"): ("waiting", "rolled back, retried by `retry`, then dead"),
    ("Transactional", "time-out"): ("waiting", "rolled back, retried by `retry`, then dead"),
    ("Transactional", "crash"): ("waiting", "rolled back, delivered again"),
    ("AtMostOnce", "returned"): ("done", "done"),
    ("AtMostOnce", "Retry"): ("waiting", "waiting"),
    ("AtMostOnce", "Reject"): ("dead", "dead"),
    ("AtMostOnce", "anything else raised"): ("in doubt", "in doubt"),
    ("AtMostOnce", "time-out"): ("in doubt", "in doubt"),
    ("AtMostOnce", "crash"): ("in doubt", "in doubt"),
    ("AtLeastOnce", "returned"): ("done", "done"),
    ("AtLeastOnce", "Retry"): ("waiting", "waiting"),
    ("AtLeastOnce", "Reject"): ("dead", "dead"),
    ("AtLeastOnce", "anything else raised"): ("waiting", "retried by `retry`, then dead"),
    ("AtLeastOnce", "time-out"): ("waiting", "retried by `retry`, then dead"),
    ("AtLeastOnce", "crash"): ("waiting", "another worker, higher token"),
}
PROMISES = {
    "Transactional": (
        True,
        "per key at most one attempt's database changes commit, with result and outgoing messages, in one commit",
    ),
    "AtMostOnce": (
        False,
        "started at most once per key, unless `reconcile` or an operator permits another start",
    ),
    "AtLeastOnce": (False, "started until it reports success or is dead; attempts may overlap"),
}
BY_NAME = {"Transactional": Transactional, "AtMostOnce": AtMostOnce, "AtLeastOnce": AtLeastOnce}


@pytest.mark.parametrize(("cell", "expected"), TABLE.items(), ids=" ".join)
def test_every_cell(cell, expected):
    mode, outcome = cell
    rules = MODES[BY_NAME[mode]]
    decision = rules.outcomes[Outcome(outcome)]
    assert (decision.verb.value, decision.text) == expected
    assert decide(BY_NAME[mode](), Outcome(outcome)) is Verb(expected[0])


def test_the_table_has_no_other_cell():
    cells = {(rules.name, outcome.value) for rules in MODES.values() for outcome in rules.outcomes}
    assert cells == TABLE.keys()
    assert {rules.name: (rules.in_transaction, rules.promise) for rules in MODES.values()} == PROMISES


def test_an_undeclared_failure_is_a_dead_letter_at_once_in_no_mode():
    for mode in BY_NAME.values():
        for outcome in (Outcome.RAISED, Outcome.TIMED_OUT, Outcome.CRASHED):
            assert decide(mode(), outcome) is not Verb.BURY


async def ask() -> None:
    return None


@pytest.mark.parametrize(
    ("mode", "text", "budget"),
    [
        (Transactional(), "Transactional()", 5),
        (
            Transactional(retry=Backoff(3)),
            "Transactional(retry=Backoff(3, first=1, factor=2, longest=300))",
            3,
        ),
        (AtLeastOnce(), "AtLeastOnce()", 5),
        (AtLeastOnce(Backoff(9)), "AtLeastOnce(retry=Backoff(9, first=1, factor=2, longest=300))", 9),
        (AtMostOnce(), "AtMostOnce()", 5),
        (AtMostOnce(reconcile=ask), "AtMostOnce(reconcile=ask)", 5),
    ],
)
def test_a_mode_reads_as_it_is_written_and_has_a_budget(mode, text, budget):
    assert (repr(mode), mode.retry.attempts) == (text, budget)


def test_a_mode_does_not_change():
    with pytest.raises(AttributeError):
        Transactional().retry = Backoff(2)  # type: ignore[misc]
