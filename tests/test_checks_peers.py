"""The checks of aliases with peers, beyond one mistake each."""

import pytest
from django.db import connections

from django_replicas.checks import check_databases, check_peers, check_settings
from django_replicas.checks.servers import seconds_to_connect

from .pages import python_of
from .peers import aliases, balanced


def postgres(**own):
    return {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", **own}


def ids(messages):
    return [message.id.partition(".")[2] for message in messages]


def test_the_examples_of_the_page(settings):
    """What the page shows is what the checks want."""
    equal, following = python_of("balanced")
    example = {}
    exec(equal, example)
    for name in ("standby1", "standby2"):
        example["DATABASES"][name] = example["peer"](f"{name}.internal")
    exec(following, example)
    settings.REPLICAS = example["REPLICAS"]
    with aliases(**example["DATABASES"]):
        assert [*check_settings(), *check_peers()] == []
        for alias in ("default", "readers"):
            assert connections.create_connection(alias).vendor == "postgresql"


def test_an_engine_that_cannot_be_imported():
    """It is told once, and nothing else is asked of its peers."""
    with aliases(one={"ENGINE": "no.such.engine"}, many=balanced("one")):
        (message,) = check_peers()
    assert message.id == "django_replicas.E020"
    assert "The peers of 'many' cannot be used: " in message.msg


@pytest.mark.parametrize(
    ("alias", "peer", "expected"),
    [
        ({}, {"CONN_MAX_AGE": 5}, ["E021"]),
        ({"CONN_MAX_AGE": None}, {}, ["E021"]),
        ({}, {}, []),
    ],
)
def test_pools_and_persistent_connections(alias, peer, expected):
    """A pool wants its connections back, whoever keeps them."""
    options = {"connect_timeout": 2, "pool": {"timeout": 5}}
    one = postgres(OPTIONS=options, CONN_HEALTH_CHECKS=True, **peer)
    with aliases(one=one, many=balanced("one", **alias)):
        assert ids(check_peers()) == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({"timeout": 2}, ["W022"]),
        ({"timeout": 11}, ["W022", "W023"]),
        (True, ["W022", "W023"]),
        ({"max_size": 3}, ["W022", "W023"]),
    ],
)
def test_pools_that_let_people_wait(pool, expected):
    """Unchecked connections fail later, and thirty seconds are psycopg's own default."""
    one = postgres(OPTIONS={"connect_timeout": 2, "pool": pool})
    with aliases(one=one, many=balanced("one")):
        assert ids(check_peers()) == expected


def test_settings_that_count_for_nothing():
    """They are named."""
    own = {"HOST": "peer.invalid", "TIME_ZONE": "Asia/Tokyo"}
    with aliases(one=postgres(OPTIONS={"connect_timeout": 2}), many=balanced("one", **own)):
        (message,) = check_peers()
    assert message.id == "django_replicas.W020"
    assert message.msg.startswith("HOST, TIME_ZONE of 'many' count for nothing: ")


def test_every_wrong_setting_is_told():
    """All of them at once, as errors; the peers are not asked about then."""
    with aliases(one=postgres(), many=balanced("one", "no", CHECK_INTERVAL=0, BALANCE="fair")):
        assert ids(check_peers()) == ["E020", "E020", "E020"]
        assert connections.create_connection("many").vendor == "unknown"


def test_a_follower_with_peers(settings):
    """How long connecting to it may take is said by its peers, and told of them alone."""
    settings.REPLICAS = {"SETS": {"leading": ["many"]}}
    entries = {
        "leading": postgres(),
        "one": postgres(OPTIONS={"connect_timeout": 2}),
        "two": postgres(),
        "many": balanced("one", "two", TEST={"MIRROR": "leading"}),
    }
    with aliases(**entries):
        assert ids(check_databases()) == []
        assert ids(check_peers()) == ["W021"]
        assert seconds_to_connect("many", 5) == 7
