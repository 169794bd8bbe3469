"""What is down, until when, and who may try it again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from inspect import signature

import pytest

from django_replicas.liveness import Liveness


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def liveness(clock):
    return Liveness(10.0, clock)


def test_everything_is_up_at_first(liveness):
    """What nobody marked down may be tried, as often as one likes."""
    assert liveness.is_up("a")
    assert liveness.may_try("a")
    assert liveness.may_try("a")


def test_what_is_down_is_left_alone_for_the_downtime(liveness, clock):
    """Until the downtime has passed nobody tries, then somebody may."""
    liveness.mark_down("a")
    assert not liveness.is_up("a")
    assert not liveness.may_try("a")
    clock.now += 9.99
    assert not liveness.may_try("a")
    clock.now += 0.01
    assert liveness.may_try("a")


def test_the_others_are_not_affected(liveness):
    """Each name is down for itself."""
    liveness.mark_down("a")
    assert liveness.is_up("b")
    assert liveness.may_try("b")


def test_one_prober_at_a_time(liveness, clock):
    """After the downtime one caller tries, and the others wait another downtime."""
    liveness.mark_down("a")
    clock.now += 10
    assert liveness.may_try("a")
    assert not liveness.may_try("a")
    assert not liveness.is_up("a")
    clock.now += 9.99
    assert not liveness.may_try("a")
    clock.now += 0.01
    assert liveness.may_try("a")


def test_one_prober_among_threads(liveness, clock):
    """Of threads that ask at once, exactly one may try."""
    liveness.mark_down("a")
    clock.now += 10
    together = threading.Barrier(16)

    def ask():
        together.wait()
        return liveness.may_try("a")

    with ThreadPoolExecutor(16) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(16)]]
    assert answers.count(True) == 1


def test_a_failed_probe_begins_the_downtime_anew(liveness, clock):
    """Who tried and failed marks it down from then on."""
    liveness.mark_down("a")
    clock.now += 10
    liveness.may_try("a")
    clock.now += 5
    assert not liveness.mark_down("a")
    clock.now += 9.99
    assert not liveness.may_try("a")
    clock.now += 0.01
    assert liveness.may_try("a")


def test_what_came_back_is_everybodys(liveness):
    """After a success all may use it."""
    liveness.mark_down("a")
    liveness.mark_up("a")
    assert liveness.is_up("a")
    assert liveness.may_try("a")
    assert liveness.may_try("a")


def test_news_is_told_once(liveness):
    """Marking tells whether it changed anything, so that one log line is written."""
    assert not liveness.mark_up("a")
    assert liveness.mark_down("a")
    assert not liveness.mark_down("a")
    assert liveness.mark_up("a")
    assert not liveness.mark_up("a")
    assert liveness.mark_down("a")


def test_those_up(liveness):
    """Whoever is not down is up, in the order asked for."""
    assert liveness.those_up(["b", "a"]) == ["b", "a"]
    liveness.mark_down("a")
    assert liveness.those_up(["c", "a", "b"]) == ["c", "b"]
    liveness.mark_down("b")
    assert liveness.those_up(["a", "b"]) == []
    assert liveness.those_up([]) == []


class Belated(Liveness):
    """What one thread sees whose first look was just before another marked the name up."""

    def is_up(self, name):
        return False


def test_what_comes_back_between_two_looks_may_be_tried(clock):
    """A name marked up while another thread was about to look is everybody's."""
    assert Belated(10.0, clock).may_try("a")


def test_two_who_mark_up_at_once_tell_it_once(clock):
    """Of two threads that found it alive, only the first has news."""
    liveness = Belated(10.0, clock)
    assert not liveness.mark_up("a")


def test_the_clock_is_monotonic():
    """By default no change of the wall clock brings anything back."""
    assert signature(Liveness).parameters["clock"].default is time.monotonic
