"""Every pair of state and event, written down here a second time; what is not in the table is an error with a name."""

from __future__ import annotations

import itertools

import pytest

from consumer.entry import State
from consumer.rules.states import TRANSITIONS, Event, IllegalTransition, after, diagram

# (state, event) -> the states that may follow, the usual one first (DESIGN.md §4)
TABLE = {
    ("absent", "land"): ["received"],
    ("absent", "reject"): ["dead"],
    ("absent", "claim"): ["running"],
    ("absent", "commit"): ["done"],
    ("received", "claim"): ["running"],
    ("received", "commit"): ["done"],
    ("waiting", "claim"): ["running"],
    ("waiting", "commit"): ["done"],
    ("running", "complete"): ["done"],
    ("running", "retry"): ["waiting", "dead"],
    ("running", "doubt"): ["in_doubt"],
    ("running", "bury"): ["dead"],
    ("running", "release"): ["received", "waiting", "absent"],
    ("running", "lapse"): ["in_doubt", "waiting", "dead"],
    ("running", "commit"): ["done"],
    ("in_doubt", "resolve"): ["done", "waiting", "dead"],
    ("in_doubt", "complete"): ["done"],
    ("in_doubt", "retry"): ["waiting", "dead"],
    ("in_doubt", "bury"): ["dead"],
    ("dead", "redrive"): ["waiting"],
    ("done", "purge"): ["absent"],
}
PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda value: value.name)
def test_every_pair(state, event):
    expected = TABLE.get((state.word, event.value))
    if expected is None:
        with pytest.raises(IllegalTransition) as caught:
            after(state, event)
        assert str(caught.value) == f"an entry that is {state.word} does not permit {event.value}"
        assert (caught.value.state, caught.value.event) == (state, event)
        return
    assert after(state, event).word == expected[0]
    for to in State:
        if to.word in expected:
            assert after(state, event, to) is to
        else:
            with pytest.raises(IllegalTransition, match=f"{event.value} to {to.word}"):
                after(state, event, to)


def test_the_table_has_no_other_row():
    assert {(state.word, event.value) for state, event in TRANSITIONS} == TABLE.keys()


def test_stored_numbers_never_change():
    assert {state.word: int(state) for state in State} == {
        "absent": 0,
        "received": 1,
        "running": 2,
        "waiting": 3,
        "done": 4,
        "in_doubt": 5,
        "dead": 6,
    }


def test_nothing_leaves_done_but_a_purge_and_nothing_but_a_person_revives_the_dead():
    leaving = {state: {event for one, event in TRANSITIONS if one is state} for state in State}
    assert leaving[State.DONE] == {Event.PURGE}
    assert leaving[State.DEAD] == {Event.REDRIVE}


def test_every_state_can_be_reached_and_left():
    reached = {to for targets in TRANSITIONS.values() for to in targets}
    assert reached == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_the_diagram_shows_every_row():
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    shown = set()
    for line in lines[1:]:
        states, _, events = line.strip().partition(": ")
        start, end = (name.replace("[*]", "absent") for name in states.split(" --> "))
        shown |= {(start, event, end) for event in events.split(", ")}
    assert shown == {(start, event, end) for (start, event), ends in TABLE.items() for end in ends}
