"""What a user's next reads must have reached."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from django_replicas.marks import Mark, merge

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
