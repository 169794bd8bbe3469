"""What a user's next reads must have reached."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from django_replicas.marks import Mark, merge
from django_replicas.positions import GtidPosition, WalPosition

unhurried = settings(deadline=None)
moments = st.floats(0, 1e12)
several = st.dictionaries(st.sampled_from("abc"), moments.map(Mark))


def test_a_mark_ends_so_many_seconds_from_now():
    """Its deadline is counted from the moment it is made."""
    assert Mark.lasting(15, now=1000.0) == Mark(1015.0)


def test_now_is_the_wall_clock():
    """Marks travel between processes, so they are measured by the clock that all share."""
    before = time.time()
    mark = Mark.lasting(15)
    assert before + 15 <= mark.deadline <= time.time() + 15
    assert not mark.is_past()
    assert Mark.lasting(-1).is_past()


def test_a_mark_is_past_at_its_deadline():
    """The deadline itself is no longer before it."""
    mark = Mark(1000.0)
    assert not mark.is_past(999.9)
    assert mark.is_past(1000.0)
    assert mark.is_past(1000.1)


def test_zero_is_a_moment_like_any_other():
    """The beginning of the epoch is not taken for "now"."""
    assert Mark.lasting(15, now=0) == Mark(15)
    assert not Mark(15).is_past(0)


@unhurried
@given(moments, moments)
def test_the_later_of_two_marks_holds(one, other):
    """Marks only grow, whichever comes first."""
    merged = Mark(one).merged(Mark(other))
    assert merged == Mark(other).merged(Mark(one)) == Mark(max(one, other))


@unhurried
@given(several, several)
def test_merging_loses_nothing(some, others):
    """Every alias keeps its latest mark, and neither side is changed."""
    before = dict(some), dict(others)
    merged = merge(some, others)
    assert merged == {
        alias: max(marks[alias] for marks in (some, others) if alias in marks)
        for alias in {*some, *others}
    }
    assert (some, others) == before


# Positions

AT_5 = WalPosition(1, 5)
AT_9 = WalPosition(1, 9)
LED_ANEW = WalPosition(2, 7)

positions = (
    st.none()
    | st.builds(WalPosition, st.integers(1, 2), st.integers(0, 5))
    | st.dictionaries(st.integers(0, 1), st.integers(0, 5), min_size=1).map(GtidPosition)
)
marks = st.builds(Mark, st.floats(0, 100), positions, st.floats(0, 100))


def test_a_mark_of_a_position_lasts_until_it_is_reached():
    """Its fallback is counted from the moment it is made, and keeps nobody from a follower."""
    mark = Mark.at(AT_5, 15, now=1000)
    assert mark == Mark(0, AT_5, 1015)
    assert not mark.is_before_deadline(0)
    assert not mark.is_past(1e12)
    assert mark.without_position() == Mark(1015)


def test_a_position_and_a_deadline_hold_together():
    """What one of them does not cover the other does."""
    both = Mark(1020).merged(Mark.at(AT_5, 15, now=1000))
    assert both == Mark(1020, AT_5, 1015)
    assert both.is_before_deadline(1019)
    assert both.without_position() == Mark(1020)


def test_the_larger_position_holds():
    """Whichever was made last, and the fallback of the later."""
    assert Mark(0, AT_9, 10).merged(Mark(0, AT_5, 12)) == Mark(0, AT_9, 12)


def test_of_two_epochs_the_later_keeps_its_position():
    """The earlier is the deadline that it would have been without one."""
    before, after = Mark(0, AT_9, 10), Mark(0, LED_ANEW, 12)
    assert before.merged(after) == after.merged(before) == Mark(10, LED_ANEW, 12)


@unhurried
@given(marks, marks)
def test_marks_only_grow(one, other):
    """Nothing that either of two marks waits for is forgotten by both."""
    both = one.merged(other)
    assert both.deadline >= max(one.deadline, other.deadline)
    assert both.fallback >= max(one.fallback, other.fallback) or both.position is None
    for mark in (one, other):
        if mark.position is not None:
            has_it = both.position is not None and mark.position.is_in(both.position)
            assert has_it or both.without_position().deadline >= mark.fallback
