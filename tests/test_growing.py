"""Marks that only grow in a cache, however those who add to them get into each other's way."""

import threading
from itertools import count
from uuid import uuid4

import pytest
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_replicas.marks import Mark, merge
from django_replicas.positions import GtidPosition, WalPosition
from django_replicas.stores import growing
from django_replicas.stores.growing import GrowingMarks

thorough = hypothesis_settings(deadline=None, max_examples=150)


def at(lsn):
    return {"default": Mark.at(WalPosition(1, lsn), 15)}


def lsn_of(marks):
    return marks["default"].position.lsn if marks else 0


@pytest.fixture
def cache():
    return LocMemCache(str(uuid4()), {})


@pytest.fixture
def marks(cache):
    return GrowingMarks(cache, "client", 60)


# One after the other


def test_nothing_was_added(marks):
    """Then there are no marks, and nobody is in doubt."""
    assert marks.read() == {}


def test_what_was_added_is_read(marks):
    """Of each alias the furthest position, whoever added it and in whatever order."""
    other = {"other": Mark.at(GtidPosition({0: 7}), 15)}
    assert all(map(marks.add, [at(5), other, at(3)]))
    read = marks.read()
    assert lsn_of(read) == 5
    assert read["other"].position == GtidPosition({0: 7})


def test_many_more_than_are_read(marks):
    """What was added first is in what was added last."""
    assert marks.add({"other": Mark.at(GtidPosition({0: 7}), 15)})
    for number in range(1, 50):
        assert marks.add(at(number))
    assert lsn_of(marks.read()) == 49
    assert "other" in marks.read()


def test_each_client_has_its_own(cache, marks):
    """Another name, other marks."""
    marks.add(at(5))
    assert GrowingMarks(cache, "another", 60).read() == {}


def test_a_cache_that_keeps_nothing():
    """It says so."""
    marks = GrowingMarks(DummyCache("", {}), "client", 60)
    assert marks.add(at(5)) is False
    assert marks.read() == {}


def test_a_counter_that_was_dropped(cache, marks):
    """The next one begins far from its numbers, so that old notes are nobody's."""
    marks.add(at(5))
    before = cache.get("client")
    cache.delete("client")
    assert marks.read() == {}
    assert marks.add(at(3))
    assert abs(cache.get("client") - before) > 1000
    assert lsn_of(marks.read()) == 3


def test_notes_that_were_dropped(cache, marks, settings):
    """The counter tells that there were some: everything is in doubt, and goes to the leader."""
    marks.add(at(5))
    last = cache.get("client")
    for number in range(last - 20, last + 1):
        cache.delete(f"client.{number}")
    assert marks.read() is None
    assert marks.add({})
    assert set(marks.read()) == set(settings.REPLICAS["SETS"])
    assert not marks.read()["default"].is_past()


def test_writers_that_died(cache, marks):
    """Numbers without notes are passed over, until there are too many of them."""
    marks.add(at(5))
    for _ in range(growing.NOTES - growing.OVERTAKEN_BY - 1):
        cache.incr("client")
        assert lsn_of(marks.read()) == 5
    cache.incr("client")
    assert marks.read() is None


def test_what_others_put_in_their_place(cache, marks):
    """What is no counter is none, and what is no note says nothing."""
    cache.set("client", "five")
    assert marks.read() == {}
    cache.delete("client")
    marks.add(at(5))
    cache.set(f"client.{cache.get('client')}", object)
    assert marks.read() == {}


def test_a_note_that_is_dropped_at_once(cache, marks, monkeypatch):
    """It is not said to be kept."""
    drop = LocMemCache.set
    monkeypatch.setattr(cache, "set", lambda key, *rest: drop(cache, f"elsewhere-{key}", *rest))
    assert marks.add(at(5)) is False


def test_notes_outlive_their_counter(cache, marks, monkeypatch):
    """Every addition prolongs the counter; what is missing while it is there was dropped."""
    given_to = {}
    touch, put = cache.touch, cache.set

    def touched(key, timeout):
        given_to[key] = timeout
        return touch(key, timeout)

    def set_to(key, value, timeout):
        given_to[key] = timeout
        put(key, value, timeout)

    monkeypatch.setattr(cache, "touch", touched)
    monkeypatch.setattr(cache, "set", set_to)
    marks.add(at(5))
    counter = given_to.pop("client")
    assert counter == 60
    assert min(given_to.values()) > counter


# At once


class Stepped(LocMemCache):
    """A cache each of whose operations waits for the test's word, in threads of a ``Writer``."""

    def __init__(self, name):
        super().__init__(name, {})

    def _wait(self):
        writer = getattr(threading.current_thread(), "writer", None)
        if writer is not None:
            writer.wait_for_turn()

    def get(self, *args, **kwargs):
        self._wait()
        return super().get(*args, **kwargs)

    def set(self, *args, **kwargs):
        self._wait()
        return super().set(*args, **kwargs)

    def add(self, *args, **kwargs):
        self._wait()
        return super().add(*args, **kwargs)

    def incr(self, *args, **kwargs):
        self._wait()
        return super().incr(*args, **kwargs)


class Writer:
    """A thread that adds one mark, one operation of the cache at a time."""

    def __init__(self, cache, alias):
        self.alias = alias
        self.is_kept = None
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, args=[cache], daemon=True)
        self._thread.writer = self
        self._thread.start()
        self._paused.acquire()

    def _run(self, cache):
        mark = Mark.at(WalPosition(1, 9), 15)
        try:
            self.wait_for_turn()
            self.is_kept = GrowingMarks(cache, "client", 60).add({self.alias: mark})
        except Abandoned:
            return
        self._paused.release()

    def wait_for_turn(self):
        self._paused.release()
        self._turn.acquire()
        if self._abandoned:
            raise Abandoned

    def step(self):
        if self.is_kept is None:
            self._turn.release()
            self._paused.acquire()

    def abandon(self):
        if self.is_kept is None:
            self._abandoned = True
            self._turn.release()
        self._thread.join()


class Abandoned(Exception):
    """Nobody waits for this writer any more."""


WRITERS = 7
names = count()


@pytest.fixture
def few_notes(monkeypatch, settings):
    """Let fewer writers than in earnest be enough to overtake one."""
    monkeypatch.setattr(growing, "NOTES", 5)
    monkeypatch.setattr(growing, "OVERTAKEN_BY", 2)
    settings.REPLICAS = {"SETS": {f"leader{number}": [] for number in range(WRITERS)}}


turns = st.lists(
    st.tuples(st.integers(0, WRITERS - 1), st.integers(1, 60)), min_size=WRITERS, max_size=40
)


@pytest.mark.usefixtures("few_notes")
def test_any_order_of_operations():
    """Whatever was kept is read from then on, or the reader knows that it is in doubt."""
    seen = {"kept": 0, "sure": 0}

    @thorough
    @given(turns)
    def in_turn(turns):
        cache = Stepped(f"stepped-{next(names)}")
        reader = GrowingMarks(cache, "client", 60)
        writers = [Writer(cache, f"leader{number}") for number in range(WRITERS)]
        try:
            for number, steps in turns:
                for _ in range(steps):
                    writers[number].step()
                check(reader, writers, seen)
        finally:
            for writer in writers:
                writer.abandon()

    in_turn()
    assert min(seen.values()) > 100, seen


def check(reader, writers, seen):
    read = reader.read()
    kept = {writer.alias for writer in writers if writer.is_kept}
    seen["kept"] += len(kept)
    if read is not None:
        seen["sure"] += 1
        assert kept <= set(read)


# What is merged

positions = st.builds(WalPosition, st.just(1), st.integers(0, 99)) | st.none()
of_one_epoch = st.builds(Mark, st.integers(0, 99), positions, st.integers(0, 99)).map(
    lambda mark: mark if mark.position else Mark(mark.deadline)
)
several = st.dictionaries(st.sampled_from("ab"), of_one_epoch)


@thorough
@given(several, several, several)
def test_the_order_of_merging_does_not_matter(one, two, three):
    """Two writers that read each other's notes or not, in whatever order, say the same."""
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(merge(one, two), two) == merge(one, two)


any_positions = st.builds(WalPosition, st.integers(1, 3), st.integers(0, 99))
of_any_epoch = st.builds(Mark, st.integers(0, 99), any_positions, st.integers(0, 99))


@thorough
@given(of_any_epoch, of_any_epoch, st.integers(0, 99))
def test_merging_asks_for_no_less(one, two, now):
    """Who is held to the leader by one mark is by both; a position is kept, or waited for."""
    for both in (one.merged(two), two.merged(one)):
        for mark in (one, two):
            assert both.is_before_deadline(now) or not mark.is_before_deadline(now)
            compares = mark.position.epoch == both.position.epoch
            if compares:
                assert mark.position.is_in(both.position) or both.deadline >= mark.fallback
            else:
                assert both.deadline >= mark.fallback
