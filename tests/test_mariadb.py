"""A MariaDB leader and its follower, as `manage.py replicas` and the connecting checks see them."""

import json
import os

import pymysql
import pytest
from django.core.management import call_command

from django_replicas import status
from django_replicas.checks import check_servers
from django_replicas.checks import servers as checks
from django_replicas.conf import get_config
from django_replicas.replication import Lag
from django_replicas.status import examine
from servers.mariadb import MariaDBNotFound, Server

ALIASES = ["default", "replica1"]


@pytest.fixture(scope="module")
def running():
    pymysql.install_as_MySQLdb()
    try:
        leader, follower = Server(), Server(number=2)
    except MariaDBNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with leader, follower:
        follower.follow(leader)
        leader.execute("CREATE TABLE app.album (id INT)")
        yield leader, follower


@pytest.fixture
def servers(running, databases_are, settings):
    """Have the two behind the aliases of a set, and both well at the beginning."""
    leader, follower = running
    follower.wait_for(leader)
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    put(databases_are, leader, follower)
    return running


def put(databases_are, leader, follower, **options):
    databases_are(
        default=leader.django_database(**options),
        replica1={**follower.django_database(**options), "TEST": {"MIRROR": "default"}},
    )


def statuses():
    return examine(get_config().topology.sets)


def told():
    """Return the ids of what the checks of both databases tell."""
    messages = check_servers(databases=ALIASES)
    return [each.id.removeprefix("django_replicas.") for each in messages]


def test_a_follower_that_has_caught_up(servers):
    """Both tell the same position, and nothing is amiss."""
    leader, follower = statuses()
    assert leader.alive
    assert follower.alive
    assert leader.position == servers[0].position() != ""
    assert follower.position == leader.position
    assert (leader.lag, follower.lag) == (Lag(), Lag(transactions=0, seconds=0.0))
    assert (leader.note, follower.note) == (None, None)
    assert told() == []


def test_a_follower_that_lags(servers, capsys):
    """Its transactions are counted, one by one."""
    leader, follower = servers
    follower.pause_replay()
    try:
        for number in range(3):
            leader.execute(f"INSERT INTO app.album VALUES ({number})")
        assert statuses()[1].lag == Lag(transactions=3)
        call_command("replicas", "--json")
        assert json.loads(capsys.readouterr().out)[1]["lag"]["transactions"] == 3
        call_command("replicas")
        assert "3 transactions" in capsys.readouterr().out
        assert told() == []
    finally:
        follower.resume_replay()
    follower.wait_for(leader)
    assert statuses()[1].lag == Lag(transactions=0, seconds=0.0)


def test_leader_and_follower_exchanged(servers, databases_are):
    """Each is told what it is not: one takes no writes, the other does, and replays nothing."""
    leader, follower = servers
    put(databases_are, leader=follower, follower=leader)
    assert told() == ["W014", "W013"]
    assert statuses()[1].note == "it has no GTID position"


def test_a_follower_that_takes_writes(servers):
    """It replicates, but nothing keeps mistakes away from it."""
    _, follower = servers
    follower.execute("SET GLOBAL read_only = 0")
    try:
        assert told() == ["W013"]
    finally:
        follower.execute("SET GLOBAL read_only = 1")


@pytest.mark.parametrize(
    ("end", "again", "said"),
    [("kill", "start", "refused"), ("freeze", "thaw", "no answer within 1.1 seconds")],
)
def test_a_follower_that_does_not_answer(servers, databases_are, monkeypatch, end, again, said):
    """It is told why, while the leader is seen all the same; PyMySQL knows no limit for answers."""
    leader, follower = servers
    put(databases_are, leader, follower, connect_timeout=1)
    getattr(follower, end)()
    try:
        with monkeypatch.context() as patient:
            patient.setattr(status, "ANSWER_TIMEOUT", 0.1)
            patient.setattr(checks, "SECONDS_TO_ANSWER", 0.1)
            seen = statuses()
            messages = check_servers(databases=ALIASES)
    finally:
        getattr(follower, again)()
    assert [each.alive for each in seen] == [True, False]
    assert said in seen[1].error
    (message,) = messages
    assert message.id == "django_replicas.W012"
    assert said in message.msg
    assert leader.password not in message.msg
    assert follower.password not in message.msg
