"""What the cache is told of unwritten sessions, so that those of a killed process are found."""

import itertools

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache

from django_replicas.sessions import ledger as ledger_module
from django_replicas.sessions.ledger import Ledger, unwritten

from .session_sites import LOCMEM

numbers = itertools.count()


class Broken(LocMemCache):
    """A cache that fails while the test says so."""

    fails = False

    def add(self, *args, **kwargs):
        if self.fails:
            raise OSError("no cache")
        return super().add(*args, **kwargs)

    def delete(self, *args, **kwargs):
        if self.fails:
            raise OSError("no cache")
        return super().delete(*args, **kwargs)


@pytest.fixture(autouse=True)
def _own_cache(settings):
    backend = f"{__name__}.Broken"
    location = f"ledger {next(numbers)}"
    settings.CACHES = {"default": {**LOCMEM, "BACKEND": backend, "LOCATION": location}}


@pytest.fixture
def one_slot(monkeypatch):
    monkeypatch.setattr(ledger_module, "SLOTS", 1)


def test_a_line_is_used_again_when_everybody_has_released_it():
    """Two saves of one session hold one line; a full list tells of no more."""
    own = Ledger(lines=2)
    first = own.hold("first", cache)
    assert own.hold("first", cache) == first
    assert own.hold("second", cache) != first
    assert own.hold("third", cache) == {}
    own.release("third")
    own.release("first")
    assert own.hold("third", cache) == {}
    own.release("first")
    assert own.hold("third", cache).keys() == first.keys()


def test_what_was_given_up_is_released_by_whoever_saw_it_written():
    """Not by a save that was refused, nor before everybody else has released it."""
    own = Ledger(lines=1)
    for _ in range(3):
        own.hold("one", cache)
    own.give_up("one", 1)
    own.give_up("nobody's", 1)
    own.release("one")
    own.release("one", in_step=True)
    assert own.hold("two", cache) != {}
    own.hold("two", cache)
    own.give_up("two", 1)
    own.release("two", 0, in_step=True)
    assert own.hold("three", cache) == {}
    own.release("two")
    assert own.hold("three", cache) != {}


def test_the_ledger_tells_each_session_once():
    """Also where two processes have saved it."""
    for own in (Ledger(), Ledger()):
        for key in ("one", "two"):
            cache.set_many(own.hold(key, cache))
    assert sorted(unwritten(cache)) == ["one", "two"]


def test_a_ledger_without_a_slot_says_so(one_slot, caplog):
    """Saves go on, and so does recovery by the next load."""
    Ledger().hold("one", cache)
    own = Ledger()
    cache.set_many(own.hold("two", cache))
    assert "No slot is left" in caplog.text
    assert [*unwritten(cache)] == []


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def own(clock):
    return Ledger(clock=lambda: clock[0])


def test_a_cache_that_forgot_is_told_again(own, clock):
    """It may have been restarted; somebody else may have the slot by then."""
    cache.set_many(own.hold("one", cache))
    cache.clear()
    cache.set_many(own.hold("one", cache))
    assert [*unwritten(cache)] == []
    clock[0] += 300
    own.hold("one", cache)
    assert [*unwritten(cache)] == ["one"]


def test_a_slot_is_kept_while_it_is_told_again(one_slot, own, clock, caplog):
    """A process has one; it does not need a second to go on."""
    cache.set_many(own.hold("one", cache))
    clock[0] += 300
    own.hold("one", cache)
    assert [*unwritten(cache)] == ["one"]
    assert caplog.text == ""


class Silent(Broken):
    """A cache that hides its errors while the test says so."""

    silent = False
    adds = 0

    def get(self, *args, **kwargs):
        return None if self.silent else super().get(*args, **kwargs)

    def add(self, *args, **kwargs):
        self.adds += 1
        return not self.silent and super().add(*args, **kwargs)


@pytest.fixture
def silent():
    silent = Silent(f"ledger {next(numbers)}", {})
    silent.silent = True
    return silent


def test_a_save_asks_for_few_slots(own, silent, clock, caplog):
    """Where the cache gives none, the user waits for eight calls, not for hundreds."""
    own.hold("one", silent)
    assert silent.adds == 8
    assert "No slot is left" in caplog.text


def test_a_process_keeps_its_slot_where_the_cache_hid_it(own, silent, clock):
    """Else it would come to hold several, and others none."""
    silent.silent = False
    own.hold("one", silent)
    for is_silent in (True, False) * 3:
        silent.silent = is_silent
        clock[0] += 300
        own.hold("one", silent)
    slots = silent.get_many([*map(ledger_module._slot, range(ledger_module.SLOTS))])
    assert len(slots) == 1


def test_a_cache_that_forgot_is_told_in_the_same_slot(own, clock):
    """Where nobody else has it by then."""
    (line,) = own.hold("one", cache)
    slot = own._slot
    cache.clear()
    clock[0] += 300
    assert [*own.hold("one", cache)] == [line]
    assert own._slot == slot


def test_who_has_lost_the_slot_takes_another(own, clock, monkeypatch):
    """It is somebody else's by now."""
    cache.set_many(own.hold("one", cache))
    cache.set(own._slot, {"owner": "other", "lines": 1})
    clock[0] += 300
    cache.set_many(own.hold("one", cache))
    assert [*unwritten(cache)] == ["one"]


def test_a_cache_that_failed_is_told_later(own, clock, monkeypatch, caplog):
    """Not a day later."""
    monkeypatch.setattr(Broken, "fails", True)
    lines = own.hold("one", cache)
    assert "not told to the cache: OSError('no cache')" in caplog.text
    monkeypatch.setattr(Broken, "fails", False)
    cache.set_many(lines)
    clock[0] += 300
    own.hold("one", cache)
    assert [*unwritten(cache)] == ["one"]


def test_a_process_that_ends_well_gives_its_slot_back(one_slot, monkeypatch):
    """Workers are replaced every hour; what ends with something unwritten keeps its slot."""
    for _ in range(3):
        own = Ledger()
        cache.set_many(own.hold("one", cache))
        own.close()
        assert [*unwritten(cache)] == ["one"]
        own.release("one")
        own.close()
        assert [*unwritten(cache)] == []


def test_a_slot_that_somebody_else_has_by_now_is_left(one_slot, own):
    """The cache had forgotten it."""
    own.hold("one", cache)
    own.release("one")
    cache.clear()
    other = Ledger()
    cache.set_many(other.hold("others", cache))
    own.close()
    assert [*unwritten(cache)] == ["others"]


def test_what_was_forked_leaves_the_slot_of_its_parent(own, monkeypatch):
    """It ends before its parent does."""
    cache.set_many(own.hold("one", cache))
    own.release("one")
    with monkeypatch.context() as child:
        child.setattr(ledger_module.os, "getpid", lambda: -1)
        own.close()
    assert [*unwritten(cache)] == ["one"]


def test_a_slot_that_cannot_be_given_back_is_left(own, monkeypatch):
    """A process ends whatever its cache does."""
    cache.set_many(own.hold("one", cache))
    own.release("one")
    monkeypatch.setattr(Broken, "fails", True)
    own.close()
    assert [*unwritten(cache)] == ["one"]


@pytest.mark.parametrize("value", ["text", 5, {"owner": 1}, {"owner": "a", "lines": "many"}])
def test_a_slot_with_something_else_is_passed_over(value, caplog):
    """So is a line; what is in order beside them is found."""
    cache.set(ledger_module._slot(0), value)
    own = Ledger(lines=2)
    cache.set_many(own.hold("one", cache))
    (broken,) = own.hold("two", cache)
    cache.set(broken, value)
    assert set(unwritten(cache)) - {"text"} == {"one"}
    assert "something else than a list of unwritten sessions" in caplog.text


def test_a_forked_child_has_a_ledger_of_its_own(monkeypatch):
    """Two processes must not write the same lines."""
    own = Ledger()
    (line,) = own.hold("one", cache)
    monkeypatch.setattr(own, "_pid", -1)
    (other,) = own.hold("one", cache)
    assert line != other
