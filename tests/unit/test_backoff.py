from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import RegistrationError
from consumer.rules.backoff import Backoff


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        (Backoff(first=0), [0, 0, 0]),
        (Backoff(first=5, factor=1), [5, 5, 5]),
        (Backoff(first=2, factor=3, longest=10), [2, 6, 10, 10]),
        (Backoff(first=300), [300, 300]),
        (Backoff(first=timedelta(minutes=1), longest=timedelta(minutes=2)), [60, 120, 120]),
        (Backoff(first=0.5, factor=1.5), [0.5, 0.75, 1.125]),
    ],
)
def test_delays(backoff, delays):
    assert [backoff.delay(attempt) for attempt in range(1, len(delays) + 1)] == delays


def test_defaults():
    default = Backoff()
    assert (default.attempts, default.first, default.factor, default.longest) == (5, 1.0, 2.0, 300.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"attempts": 0},
            (
                "Backoff(attempts=0): the first attempt counts, so 1 to 32000 are allowed; "
                "write attempts=1 for no second one"
            ),
        ),
        (
            {"attempts": 32_001},
            (
                "Backoff(attempts=32001): the first attempt counts, so 1 to 32000 are allowed; "
                "write attempts=1 for no second one"
            ),
        ),
        ({"first": -1}, "Backoff(first=-1, longest=300): seconds, and 0 <= first <= longest is needed"),
        ({"first": 301}, "Backoff(first=301, longest=300): seconds, and 0 <= first <= longest is needed"),
        (
            {"first": float("nan")},
            "Backoff(first=nan, longest=300): seconds, and 0 <= first <= longest is needed",
        ),
        ({"factor": 0.9}, "Backoff(factor=0.9): must be 1 or more; write factor=1 for equal delays"),
        (
            {"factor": float("nan")},
            "Backoff(factor=nan): must be 1 or more; write factor=1 for equal delays",
        ),
    ],
)
def test_out_of_range(arguments, text):
    with pytest.raises(RegistrationError) as caught:
        Backoff(**arguments)
    assert str(caught.value) == text


@given(
    st.floats(0, 100),
    st.floats(1, 1e308),
    st.floats(100, 1e308),
    st.integers(1, 32_000),
    st.integers(1, 32_000),
)
def test_delays_never_shrink_and_never_leave_their_bounds(first, factor, longest, one, other):
    backoff = Backoff(first=first, factor=factor, longest=longest)
    early, late = sorted((one, other))
    assert first <= backoff.delay(early) <= backoff.delay(late) <= longest


def test_equal_ones_are_equal_and_hash_alike():
    assert Backoff(3) == Backoff(3)
    assert hash(Backoff(3)) == hash(Backoff(3))
    assert Backoff(3) != Backoff(4)
    assert Backoff(3) != 3
