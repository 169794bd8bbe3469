"""What a process knows of leaders' epochs and of how far followers are."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_replicas.knowledge import Epochs, Replayed
from django_replicas.marks import Mark
from django_replicas.positions import GtidPosition, Told, WalPosition

SECONDS = 10.0


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def replayed(clock):
    return Replayed(SECONDS, clock)


def at(lsn, timeline=0):
    return WalPosition(timeline, lsn)


# Followers


class Driver:
    """A connection, as a driver has it."""


HERE, THERE = Driver(), Driver()


def hear(replayed, position, sought, driver=HERE, server="one", asked=None):
    """Have a follower tell its position."""
    asked = replayed.now() if asked is None else asked
    return replayed.learn("replica1", driver, Told(server, position), asked, sought)


def test_nothing_is_known_at_first(replayed):
    """Whoever was never asked has replayed nothing that is known."""
    assert not replayed.has("replica1", HERE, at(0, 1))
    assert replayed.misses("replica1") == 0


def test_what_a_follower_said_holds_for_all_before_it(replayed):
    """It need not be asked again for that, nor for what is earlier."""
    assert hear(replayed, at(50), at(40, 1))
    assert replayed.has("replica1", HERE, at(50, 1))
    assert not replayed.has("replica1", HERE, at(51, 1))
    assert not replayed.has("replica2", HERE, at(1, 1))


def test_another_server_behind_the_alias_has_said_nothing(replayed):
    """What one server replayed, another may not have."""
    hear(replayed, at(50), at(40, 1))
    assert not hear(replayed, at(30), at(40, 1), THERE, server="other")
    assert not replayed.has("replica1", THERE, at(40, 1))
    assert not replayed.has("replica1", HERE, at(30, 1))


def test_a_connection_may_be_led_to_another_server(replayed):
    """By a pooler, for instance; it is what it said last."""
    hear(replayed, at(50), at(40, 1))
    hear(replayed, at(30), at(20, 1), server="other")
    assert replayed.has("replica1", HERE, at(30, 1))
    assert not replayed.has("replica1", HERE, at(40, 1))


def test_what_is_heard_on_one_connection_holds_for_those_that_are_older(replayed, clock):
    """They lead to the same server, which has not failed in between, or they would be gone."""
    hear(replayed, at(10), at(10, 1), THERE)
    clock.now = 1
    hear(replayed, at(50), at(40, 1))
    assert replayed.has("replica1", THERE, at(50, 1))


def test_a_new_connection_may_lead_to_a_server_that_went_back(replayed, clock):
    """Its own answer counts, for it and for all that is asked from then on."""
    hear(replayed, at(50), at(40, 1))
    clock.now = 1
    assert not replayed.has("replica1", THERE, at(40, 1))
    assert not hear(replayed, at(30), at(40, 1), THERE)
    assert not replayed.has("replica1", THERE, at(40, 1))


def test_what_was_asked_before_and_is_heard_after_a_server_went_back(replayed, clock):
    """A thread that heard of more was slow to say so; nobody who came later believes it."""
    hear(replayed, at(10), at(10, 1))
    clock.now = 1
    hear(replayed, at(30), at(30, 1), THERE)
    assert hear(replayed, at(50), at(40, 1), asked=0.5)
    assert not replayed.has("replica1", THERE, at(40, 1))
    assert not hear(replayed, at(35), at(40, 1), THERE)


def test_older_news_changes_nothing(replayed):
    """Of two threads that asked, the later answer may come first."""
    hear(replayed, at(50), at(40, 1))
    assert hear(replayed, at(45), at(48, 1))
    assert replayed.has("replica1", HERE, at(50, 1))


def test_it_is_forgotten_after_a_while(replayed, clock):
    """The server may be another one by then."""
    hear(replayed, at(50), at(40, 1))
    clock.now = SECONDS - 0.1
    assert replayed.has("replica1", HERE, at(50, 1))
    clock.now = SECONDS
    assert not replayed.has("replica1", HERE, at(50, 1))
    assert not hear(replayed, at(45), at(50, 1))


def test_it_is_forgotten_at_once(replayed):
    """When the follower fails."""
    hear(replayed, at(50), at(60, 1))
    replayed.forget("replica1")
    assert replayed.misses("replica1") == 0
    assert not replayed.has("replica1", HERE, at(50, 1))
    replayed.forget("replica2")


def test_misses_are_counted_until_it_has_caught_up(replayed, clock):
    """Those that are behind are asked last; not for ever."""
    for number in range(3):
        assert not hear(replayed, at(50 + number), at(100, 1))
    assert replayed.misses("replica1") == 3
    assert hear(replayed, at(100), at(100, 1))
    assert replayed.misses("replica1") == 0
    hear(replayed, at(100), at(200, 1))
    clock.now = SECONDS
    assert replayed.misses("replica1") == 0


def test_who_does_not_say_has_nothing(replayed):
    """A server that never replayed, or that refuses to tell."""
    assert not hear(replayed, None, at(1, 1))
    assert not replayed.has("replica1", HERE, at(0, 1))
    hear(replayed, at(5), at(1, 1))
    assert not hear(replayed, None, at(1, 1))


def test_what_does_not_compare_takes_the_place_of_what_was_known(replayed):
    """A promoted follower tells a timeline; what it replayed before says nothing any more."""
    hear(replayed, at(50), at(40, 1))
    assert hear(replayed, at(45, 2), at(45, 2))
    assert not replayed.has("replica1", HERE, at(50, 1))


# Leaders

BEFORE, AFTER = Mark(0, at(90, 1), 100), Mark(0, at(70, 2), 200)


def test_a_mark_of_the_present_epoch_keeps_its_position():
    """So does the first one that is met, and a deadline is one anyhow."""
    epochs = Epochs()
    assert epochs.comparable("default", Mark(5)) == Mark(5)
    assert epochs.comparable("default", AFTER) == AFTER
    earlier = AFTER._replace(fallback=150)
    assert epochs.comparable("default", earlier) == earlier


def test_a_mark_of_an_earlier_epoch_is_a_deadline():
    """Positions of before a failover do not compare with what is replayed after it."""
    epochs = Epochs()
    epochs.comparable("default", AFTER)
    assert epochs.comparable("default", BEFORE) == Mark(100)
    assert epochs.comparable("other", BEFORE) == BEFORE


def test_a_later_mark_tells_of_a_new_epoch():
    """No leader is asked for it."""
    epochs = Epochs()
    assert epochs.comparable("default", BEFORE) == BEFORE
    assert epochs.comparable("default", AFTER) == AFTER
    assert epochs.comparable("default", BEFORE) == Mark(100)
    epochs.forget()
    assert epochs.comparable("default", BEFORE) == BEFORE


def test_mariadbs_epoch_is_its_domains():
    """A leader without a domain that a mark names will never write there again."""
    epochs = Epochs()
    epochs.comparable("default", Mark(0, GtidPosition({0: 5}), 200))
    gone = Mark(0, GtidPosition({0: 1, 7: 5}), 100)
    assert epochs.comparable("default", gone) == Mark(100)


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), min_size=1))
def test_nothing_is_believed_of_an_epoch_that_is_over(history):
    """In whatever order marks come: once a later epoch is known, the former has no positions."""
    epochs, latest = Epochs(), 0
    for timeline, lsn in history:
        mark = Mark(0, at(lsn, timeline), 1000 * timeline + lsn)
        met = epochs.comparable("default", mark)
        latest = max(latest, timeline)
        assert (met.position is not None) is (timeline == latest)
