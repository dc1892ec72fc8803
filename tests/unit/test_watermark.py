from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.rules.watermark import Watermark


def play(steps: str, position: int | None = None) -> list[tuple[int | None, int]]:
    """Run `d3` (delivered) and `a3` (acknowledged) steps; return position and gap after each."""
    mark = Watermark(position)
    seen = []
    for step in steps.split():
        offset = int(step[1:])
        if step[0] == "d":
            mark.delivered(offset)
        else:
            before = mark.position
            assert mark.acked(offset) is (mark.position != before)
        seen.append((mark.position, mark.in_hand))
    return seen


@pytest.mark.parametrize(
    ("steps", "position", "seen"),
    [
        ("d0 a0", None, [(None, 1), (1, 0)]),
        ("d5 d6 a6 a5", 5, [(5, 1), (5, 2), (5, 2), (7, 0)]),
        (
            "d0 d4 d9 a4 a0 a9",
            0,
            [(0, 1), (0, 2), (0, 3), (0, 3), (5, 1), (10, 0)],
        ),  # holes: 1-3 and 5-8 never came
        ("d1 a1 a1", 1, [(1, 1), (2, 0), (2, 0)]),  # twice
        ("d7 a6", 7, [(7, 1), (7, 1)]),  # of an earlier assignment
        ("a3", 3, [(3, 0)]),
        ("d1 d2 a2 a2 a1", 1, [(1, 1), (1, 2), (1, 2), (1, 2), (3, 0)]),
    ],
)
def test_positions(steps, position, seen):
    assert play(steps, position) == seen


@pytest.mark.parametrize("offset", [4, 5])
def test_offsets_come_in_rising_order(offset):
    mark = Watermark()
    mark.delivered(5)
    with pytest.raises(ValueError, match=f"offset {offset} delivered after 5"):
        mark.delivered(offset)


@given(st.sets(st.integers(0, 60), min_size=1, max_size=30), st.data())
def test_the_mark_is_monotone_and_never_passes_what_is_unfinished(offsets, data):
    offered = sorted(offsets)
    mark = Watermark(offered[0])
    for offset in offered:
        mark.delivered(offset)
    done: set[int] = set()
    last = mark.position
    for offset in data.draw(st.permutations(offered)):
        mark.acked(offset)
        done.add(offset)
        unfinished = [one for one in offered if one not in done]
        assert mark.position is not None
        assert last is not None
        assert mark.position >= last
        assert all(one >= mark.position for one in unfinished)
        # nor does it lag: everything before the first unfinished one is committed
        finished = offered if not unfinished else [one for one in offered if one < unfinished[0]]
        assert mark.position == (finished[-1] + 1 if finished else offered[0])
        last = mark.position
    assert mark.in_hand == 0
