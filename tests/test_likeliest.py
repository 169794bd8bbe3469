"""Which follower is asked for a position, and who reads where it has not reached it."""

from dataclasses import replace

import pytest
from django.db import connections, transaction

from django_replicas.conf import get_config
from django_replicas.followers import Followers
from django_replicas.knowledge import Replayed
from django_replicas.positions import WalPosition

SOUGHT = WalPosition(1, 100)
PAST_IT = WalPosition(0, 100)
BEHIND = WalPosition(0, 99)
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
    """What is known of two followers that, being SQLite, never say that they have a position."""
    return Replayed(SECONDS, clock)


@pytest.fixture
def followers(replayed):
    """Have it always be the first follower's turn."""
    replica_set = replace(get_config().topology.by_leader["default"], balance="random")
    return Followers(replica_set, pick=lambda count: 0, replayed=replayed)


def test_a_follower_that_is_known_to_be_past_the_mark_stands_in(followers, replayed):
    """Where the one whose turn it was is behind, the leader is not needed."""
    replayed.learn("replica2", None, PAST_IT, SOUGHT)
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 1


def test_nobody_stands_in_whom_nothing_is_known_of(followers, replayed):
    """Only one is asked."""
    assert followers.choose(sought=SOUGHT) is None
    assert connections["replica2"].connection is None
    replayed.learn("replica2", None, BEHIND, SOUGHT)
    assert followers.choose(sought=SOUGHT) is None


def test_another_server_behind_the_alias_does_not_stand_in(followers, replayed):
    """What is known is known of one server."""
    replayed.learn("replica2", "10.0.0.1", PAST_IT, SOUGHT)
    assert followers.choose(sought=SOUGHT) is None


def test_a_follower_in_a_transaction_does_not_stand_in(followers, replayed):
    """It may see only what there was when it began."""
    replayed.learn("replica2", None, PAST_IT, SOUGHT)
    with transaction.atomic(using="replica2"):
        assert followers.choose(sought=SOUGHT) is None


def test_a_follower_that_is_gone_does_not_stand_in(followers, replayed, monkeypatch, tmp_path):
    """Then the leader reads."""
    replayed.learn("replica2", None, PAST_IT, SOUGHT)
    gone = str(tmp_path / "gone" / "file.sqlite3")
    monkeypatch.setitem(connections.settings["replica2"], "NAME", gone)
    assert followers.choose(sought=SOUGHT) is None


def test_who_was_behind_is_not_asked_again_only_because_time_has_passed(followers, replayed, clock):
    """A unit whose mark may be on no other follower would pay for it with the leader."""
    replayed.learn("replica1", None, BEHIND, SOUGHT)
    clock.now = SECONDS
    assert followers.choose(sought=SOUGHT) is None
    assert (replayed.past_misses("replica1"), replayed.past_misses("replica2")) == (1, 1)


def test_who_was_behind_is_asked_again_when_another_follower_stands_in(followers, replayed, clock):
    """So it comes back when it has caught up, and costs nobody the leader until then."""
    replayed.learn("replica1", None, BEHIND, SOUGHT)
    clock.now = SECONDS
    replayed.learn("replica2", None, PAST_IT, SOUGHT)
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 2
    assert followers.choose(sought=SOUGHT) == "replica2"
    assert replayed.misses("replica1") == 2


def test_who_is_behind_a_later_mark_serves_earlier_ones(followers, replayed):
    """It need not be asked for them, nor need anybody else."""
    replayed.learn("replica1", None, BEHIND, SOUGHT)
    assert followers.choose(sought=WalPosition(1, 99)) == "replica1"
    assert connections["replica2"].connection is None


def test_who_has_caught_up_was_never_behind(followers, replayed):
    """Its turn comes as before."""
    replayed.learn("replica1", None, BEHIND, SOUGHT)
    replayed.learn("replica1", None, PAST_IT, SOUGHT)
    assert followers.choose(sought=SOUGHT) == "replica1"
    assert replayed.past_misses("replica1") == 0
