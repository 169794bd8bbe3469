"""Which follower is asked for a position, and who reads where it has not reached it."""

import sqlite3
from dataclasses import replace

import pytest
from django.db import connections, router, transaction

from django_replicas import follower
from django_replicas.conf import get_config
from django_replicas.followers import Followers
from django_replicas.knowledge import Replayed
from django_replicas.marks import Mark
from django_replicas.pinning import UnitOfWork
from django_replicas.positions import Positions, Told, WalPosition
from django_replicas.units import Unit

from .shop.models import Book

SOUGHT = WalPosition(1, 100)
PAST_IT = WalPosition(0, 100)
BEHIND = WalPosition(0, 99)
SECONDS = 10.0


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Referable(sqlite3.Connection):
    """A connection that can be remembered by a weak reference, as those of servers can."""


class NeverPast(Positions):
    """What SQLite would tell if it had positions: that it is behind."""

    def written(self, connection, *, flushed):
        raise NotImplementedError

    def told(self, connection):
        return Told("one", BEHIND)


@pytest.fixture(autouse=True)
def positions(monkeypatch, databases_are):
    """Have followers with positions, which say that they are behind."""
    monkeypatch.setattr("django_replicas.positions.VENDORS", {"sqlite": NeverPast()})
    entries = {alias: connections.settings[alias] for alias in ("replica1", "replica2")}
    databases_are(
        **{
            alias: {**entry, "OPTIONS": {**entry["OPTIONS"], "factory": Referable}}
            for alias, entry in entries.items()
        }
    )


def learn(replayed, alias, position, server="one"):
    """Have a follower tell its position, on this thread's connection."""
    connections[alias].ensure_connection()
    driver = connections[alias].connection
    return replayed.learn(alias, driver, Told(server, position), replayed.now(), SOUGHT)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def replayed(clock):
    """What is known of the two."""
    return Replayed(SECONDS, clock)


@pytest.fixture
def followers(replayed):
    """Have it always be the first follower's turn."""
    replica_set = replace(get_config().topology.by_leader["default"], balance="random")
    return Followers(replica_set, pick=lambda count: 0, replayed=replayed)


def test_a_follower_that_is_known_to_be_past_the_mark_stands_in(followers, replayed):
    """Where the one whose turn it was is behind, the leader is not needed."""
    learn(replayed, "replica2", PAST_IT)
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 1


def test_nobody_stands_in_whom_nothing_is_known_of(followers, replayed):
    """Only one is asked."""
    assert followers.choose(sought=SOUGHT) is None
    assert connections["replica2"].connection is None
    learn(replayed, "replica2", BEHIND)
    assert followers.choose(sought=SOUGHT) is None


def test_another_server_behind_the_alias_does_not_stand_in(followers, replayed):
    """What is known is known of one server."""
    learn(replayed, "replica2", PAST_IT)
    connections["replica2"].close()
    assert followers.choose(sought=SOUGHT) is None


def test_a_follower_in_a_transaction_does_not_stand_in(followers, replayed):
    """It may see only what there was when it began."""
    learn(replayed, "replica2", PAST_IT)
    with transaction.atomic(using="replica2"):
        assert followers.choose(sought=SOUGHT) is None


def test_a_follower_that_is_gone_does_not_stand_in(followers, replayed, monkeypatch, tmp_path):
    """Then the leader reads."""
    learn(replayed, "replica2", PAST_IT)
    connections["replica2"].close()
    gone = str(tmp_path / "gone" / "file.sqlite3")
    monkeypatch.setitem(connections.settings["replica2"], "NAME", gone)
    assert followers.choose(sought=SOUGHT) is None


def test_who_was_behind_is_not_asked_again_only_because_time_has_passed(followers, replayed, clock):
    """A unit whose mark may be on no other follower would pay for it with the leader."""
    learn(replayed, "replica1", BEHIND)
    clock.now = SECONDS
    assert followers.choose(sought=SOUGHT) is None
    assert (replayed.past_misses("replica1"), replayed.past_misses("replica2")) == (1, 1)


def test_who_was_behind_is_asked_again_when_another_follower_stands_in(followers, replayed, clock):
    """So it comes back when it has caught up, and costs nobody the leader until then."""
    learn(replayed, "replica1", BEHIND)
    clock.now = SECONDS
    learn(replayed, "replica2", PAST_IT)
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 2
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 2


def test_who_is_behind_a_later_mark_serves_earlier_ones(followers, replayed):
    """It need not be asked for them, nor need anybody else."""
    learn(replayed, "replica1", BEHIND)
    assert followers.choose(sought=WalPosition(1, 99)) == "replica1"
    assert connections["replica2"].connection is None


def test_who_has_caught_up_was_never_behind(followers, replayed):
    """Its turn comes as before."""
    learn(replayed, "replica1", BEHIND)
    learn(replayed, "replica1", PAST_IT)
    assert followers.choose(sought=SOUGHT) == "replica1"
    assert replayed.past_misses("replica1") == 0


def test_where_there_are_no_positions_nobody_has_one(followers, monkeypatch):
    """A mark of before the databases were exchanged is no error."""
    monkeypatch.setattr("django_replicas.positions.VENDORS", {})
    connections["replica1"].ensure_connection()
    assert not followers.has_replayed("replica1", SOUGHT)


def test_a_block_of_a_marked_unit_without_followers(monkeypatch, tmp_path):
    """The leader reads, as it does where nobody is marked."""
    gone = str(tmp_path / "gone" / "file.sqlite3")
    for alias in ("replica1", "replica2"):
        monkeypatch.setitem(connections.settings[alias], "NAME", gone)
    marked = UnitOfWork(unit=Unit(lambda: {"default": Mark(0, SOUGHT, 2e12)}))
    with marked, follower("default"):
        assert router.db_for_read(Book) == "default"
