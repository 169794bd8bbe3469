"""Who leads and who follows, and the settings made from it."""

from copy import deepcopy
from dataclasses import FrozenInstanceError

import pytest

from django_replicas import populate_replicas
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.topology import ReplicaSet, Topology

BOOKS = ReplicaSet("books", ("books-0", "books-1"))
USERS = ReplicaSet("users", ())
TOPOLOGY = Topology(iter([BOOKS, USERS]))


def test_a_set_has_sensible_defaults():
    """Nothing but its aliases has to be said about a set."""
    assert (BOOKS.balance, BOOKS.pin_seconds, BOOKS.downtime) == ("random", 15.0, 10.0)


def test_a_set_cannot_be_changed():
    """A set is shared by all threads, so it stays as it is."""
    with pytest.raises(FrozenInstanceError):
        BOOKS.leader = "users"


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("books", BOOKS),
        ("books-0", BOOKS),
        ("books-1", BOOKS),
        ("users", USERS),
        ("else", None),
        (None, None),
    ],
)
def test_an_alias_belongs_to_the_set_it_leads_or_follows_in(alias, expected):
    """Leaders and followers know their set; other aliases have none."""
    assert TOPOLOGY.set_of(alias) is expected


@pytest.mark.parametrize(
    ("alias", "leader"),
    [("books", "books"), ("books-0", "books"), ("books-1", "books"), ("else", "else")],
)
def test_a_follower_has_a_leader_and_others_are_their_own(alias, leader):
    """Only a follower's leader is somebody else."""
    assert TOPOLOGY.leader_of(alias) == leader


def test_only_followers_are_followers():
    """Neither a leader nor a foreign alias nor nothing at all follows anybody."""
    aliases = ["books", "books-0", "books-1", "users", "else", None]
    assert list(filter(TOPOLOGY.is_follower, aliases)) == ["books-0", "books-1"]


def test_sets_are_found_by_their_leader():
    """A topology lists its sets in order and finds them by leader."""
    assert TOPOLOGY.sets == (BOOKS, USERS)
    assert TOPOLOGY.by_leader == {"books": BOOKS, "users": USERS}


def test_a_project_may_have_no_sets():
    """Without sets every alias stands alone."""
    assert Topology().sets == ()
    assert Topology().set_of("default") is None


# populate_replicas


def test_each_follower_is_its_leader_with_its_own_settings():
    """Followers are numbered from 0, differ in what they say, and are mirrors in tests."""
    leaders = {
        "default": {"ENGINE": "e", "NAME": "n", "HOST": "a", "OPTIONS": {"x": 1}},
        "other": {"ENGINE": "f", "NAME": "m", "HOST": "d"},
    }
    followers = {"default": [{"HOST": "b"}, {"HOST": "c", "OPTIONS": {}}], "other": [{"HOST": "e"}]}
    assert populate_replicas(leaders, followers) == {
        "default": {"ENGINE": "e", "NAME": "n", "HOST": "a", "OPTIONS": {"x": 1}},
        "default-0": {
            **{"ENGINE": "e", "NAME": "n", "HOST": "b", "OPTIONS": {"x": 1}},
            "TEST": {"MIRROR": "default"},
        },
        "default-1": {
            **{"ENGINE": "e", "NAME": "n", "HOST": "c", "OPTIONS": {}},
            "TEST": {"MIRROR": "default"},
        },
        "other": {"ENGINE": "f", "NAME": "m", "HOST": "d"},
        "other-0": {"ENGINE": "f", "NAME": "m", "HOST": "e", "TEST": {"MIRROR": "other"}},
    }


def test_other_test_settings_are_kept():
    """A follower's TEST is its leader's or its own, and a mirror on top."""
    leaders = {"default": {"TEST": {"NAME": "t", "MIRROR": "x"}}}
    followers = {"default": [{}, {"TEST": {"CHARSET": "c"}}]}
    databases = populate_replicas(leaders, followers)
    assert databases["default-0"]["TEST"] == {"NAME": "t", "MIRROR": "default"}
    assert databases["default-1"]["TEST"] == {"CHARSET": "c", "MIRROR": "default"}
    assert databases["default"]["TEST"] == {"NAME": "t", "MIRROR": "x"}


def test_what_is_handed_in_is_not_changed():
    """The arguments stay as they were, and what comes back is nobody else's."""
    leaders = {"default": {"HOST": "a", "TEST": {"NAME": "t"}}}
    followers = {"default": [{"HOST": "b"}]}
    before = deepcopy((leaders, followers))
    databases = populate_replicas(leaders, followers)
    databases["default"]["HOST"] = databases["default-0"]["HOST"] = "c"
    assert (leaders, followers) == before


def test_a_leader_may_have_no_followers():
    """An empty list is an entry."""
    assert populate_replicas({"default": {"A": 1}}, {"default": []}) == {"default": {"A": 1}}


def test_a_default_is_required():
    """Django needs a default database, so one of the leaders must be it."""
    with pytest.raises(ReplicasConfigError) as caught:
        populate_replicas({"main": {}}, {"main": []})
    assert str(caught.value) == (
        'No leader is called "default". Name one so, or pass unmanaged_default=True '
        'when DATABASES["default"] is a database without followers.'
    )


def test_the_default_may_be_a_database_of_another_kind():
    """Who has a default without followers says so."""
    assert populate_replicas({"main": {}}, {"main": []}, unmanaged_default=True) == {"main": {}}
    assert populate_replicas({}, {}, unmanaged_default=True) == {}


def test_each_leader_needs_an_entry():
    """A leader that was forgotten among the sets is named."""
    with pytest.raises(ReplicasConfigError) as caught:
        populate_replicas({"default": {}, "users": {}}, {"default": []})
    assert str(caught.value) == (
        "The leader 'users' has no entry among the replica sets. "
        "Add its followers, or an empty list: {'users': []}."
    )


def test_followers_need_a_leader():
    """Followers of nobody are named."""
    with pytest.raises(ReplicasConfigError) as caught:
        populate_replicas({"default": {}, "users": {}}, {"default": [], "users": [], "books": []})
    assert str(caught.value) == (
        "Followers are given for 'books', which is not among the leaders ('default', 'users'). "
        "Add it to them, or remove its followers."
    )


def test_a_name_is_given_once():
    """A follower does not take the place of a leader that has its name."""
    with pytest.raises(ReplicasConfigError) as caught:
        populate_replicas({"default": {}, "default-0": {}}, {"default": [{}], "default-0": []})
    assert str(caught.value) == (
        "A follower of 'default' would be called 'default-0', but that alias is taken. "
        "Rename the leader that has it."
    )


def test_followers_do_not_inherit_a_transaction_per_request():
    """It would open a connection to every follower for every request; a follower's own stays."""
    databases = populate_replicas(
        {"default": {"ATOMIC_REQUESTS": True}}, {"default": [{}, {"ATOMIC_REQUESTS": True}]}
    )
    assert databases["default"]["ATOMIC_REQUESTS"]
    assert "ATOMIC_REQUESTS" not in databases["default-0"]
    assert databases["default-1"]["ATOMIC_REQUESTS"]
