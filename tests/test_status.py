"""The topology as it is: SQLite files here, real PostgreSQL servers below."""

import json
import os
import socket
import threading
from contextlib import closing, contextmanager

import pytest
from django.db import connections

from django_replicas import status as status_module
from django_replicas.conf import get_config
from django_replicas.followers import followers_of
from django_replicas.replication import Lag, Progress
from django_replicas.status import Status, examine, status_lines
from django_replicas.topology import ReplicaSet
from django_replicas.units import FOLLOWER, LEADER
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until


def the_set():
    return get_config().topology.by_leader["default"]


def found():
    return {each.alias: each for each in examine([the_set()])}


def sqlite_status(alias, role):
    return Status("default", alias, role, True, None, None, Lag(), None, None)


def test_sqlite():
    """Files are alive; they have no positions, and nothing is said about that."""
    assert examine([the_set()]) == [
        sqlite_status("default", LEADER),
        sqlite_status("replica1", FOLLOWER),
        sqlite_status("replica2", FOLLOWER),
    ]


def test_every_set():
    """Sets come in their order, each with its leader first."""
    aliases = [each.alias for each in examine(get_config().topology.sets)]
    assert aliases == ["default", "replica1", "replica2", "other", "other-0"]


def test_leaves_connections_as_they_were():
    """Each alias is tried on a connection of its own."""
    connections.close_all()
    found()
    assert all(connections[alias].connection is None for alias in connections)


@pytest.fixture
def lose(monkeypatch, tmp_path):
    """Have connecting to an alias fail."""

    def lose(alias):
        gone = str(tmp_path / "gone" / "file.sqlite3")
        monkeypatch.setitem(connections.settings[alias], "NAME", gone)
        return f"there is no file {gone}"

    return lose


def test_lost_follower(lose):
    """An alias that cannot be connected to says why, and the others are not concerned."""
    problem = lose("replica1")
    statuses = found()
    assert not statuses["replica1"].alive
    assert statuses["replica1"].error == problem
    assert statuses["replica2"].alive


def test_alias_that_is_no_database():
    """An alias that ``DATABASES`` has not is told by its row, and ends nothing."""
    (status,) = list(examine([ReplicaSet("nowhere", ())]))
    assert not status.alive
    assert status.error == "it is not in DATABASES"


def test_looking_changes_nothing(lose):
    """What this process knows of a follower is shown, not changed."""
    lose("replica1")
    followers = followers_of(the_set())
    assert found()["replica1"].down_until is None
    assert followers.down_for("replica1") is None
    followers.choose("replica1")
    until = found()["replica1"].down_until
    assert until is not None
    assert until.utcoffset().total_seconds() == 0
    assert found()["replica2"].down_until is None


def test_wrong_settings(monkeypatch):
    """What is not even a database is told like one that is dead."""
    monkeypatch.setitem(connections.settings["replica1"], "ENGINE", "no.such.engine")
    assert "no.such.engine" in found()["replica1"].error


def test_as_dict(lose):
    """JSON holds all of it, and moments in UTC."""
    problem = lose("replica1")
    followers_of(the_set()).choose("replica1")
    plain = json.loads(json.dumps(found()["replica1"].as_dict()))
    assert plain.pop("down_until").endswith("+00:00")
    assert plain == {
        "leader": "default",
        "alias": "replica1",
        "role": "follower",
        "alive": False,
        "position": None,
        "lag": {"bytes": None, "transactions": None, "seconds": None},
        "error": problem,
        "note": None,
        "lags": None,
    }


def line_of(status, column):
    header, line = status_lines([status])[:2]
    start = header.index(column)
    return line[start:].split("  ")[0]


@pytest.mark.parametrize(
    ("lag", "text"),
    [
        (Lag(), "-"),
        (Lag(bytes=0, seconds=0.0), "0 bytes"),
        (Lag(bytes=2048, seconds=1.26), "2.0 KB, at most 1.3 s"),
        (Lag(bytes=2048), "2.0 KB"),
        (Lag(transactions=1), "1 transaction"),
        (Lag(transactions=2), "2 transactions"),
    ],
)
def test_lag_as_text(lag, text):
    """Seconds are an upper bound, and are said as one."""
    status = Status("default", "replica1", FOLLOWER, True, None, "0/1", lag, None, None)
    assert line_of(status, "behind") == text


def test_lines(lose):
    """One row for each alias, the set named once, and what is wrong below."""
    problem = lose("replica2")
    assert status_lines(examine([the_set()]), "+{}".format, "!{}".format) == [
        "set      alias     role      alive  position  behind",
        "default  default   leader    +yes    -",
        "         replica1  follower  +yes    -         -",
        "         replica2  follower  !no     -         -",
        "",
        f"replica2: {problem}",
    ]


def test_lines_show_who_is_left_alone(lose):
    """The column is there when it says something."""
    lose("replica1")
    followers_of(the_set()).choose("replica1")
    lines = status_lines(examine([the_set()]))
    assert lines[0] == "set      alias     role      alive  down until  position  behind"
    assert lines[2].split()[3].count(":") == 2


# Real servers


def find_postgres():
    try:
        return find_bindir()
    except PostgresNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster():
    find_postgres()
    with Cluster(standbys=2) as cluster:
        cluster.leader.execute("CREATE TABLE note (text text)")
        cluster.wait_for_replay()
        yield cluster


@contextmanager
def databases_in_place(entries):
    before = {alias: connections.settings[alias] for alias in entries}
    connections.settings.update(entries)
    try:
        yield
    finally:
        connections.settings.update(before)


@pytest.fixture
def site(cluster, databases):
    """Have the set of ``default`` be the cluster's servers, and put them right afterwards."""
    servers = [cluster.leader, *cluster.followers]
    entries = {
        alias: {**connections.settings[alias], **server.django_database()}
        for alias, server in zip(("default", "replica1", "replica2"), servers, strict=True)
    }
    with databases_in_place(entries):
        yield cluster
    for server in servers:
        server.thaw()
        server.start()
    for server in cluster.followers:
        wait_until(lambda: server.execute("SELECT 1") == [(1,)], f"{server} answers")  # noqa: B023
        server.resume_replay()
    cluster.wait_for_replay()


def write(cluster):
    cluster.leader.execute("INSERT INTO note SELECT repeat('x', 1000) FROM generate_series(1, 20)")


def test_real_set_at_rest(site):
    """An idle leader's followers are 0 bytes and 0 seconds behind, however long it was idle."""
    write(site)
    site.wait_for_replay()
    wait_until(
        lambda: {each.lag for each in examine([the_set()])[1:]} == {Lag(bytes=0, seconds=0.0)},
        "the followers are told to have caught up",
    )
    assert all(each.alive for each in found().values())
    assert len({each.position for each in found().values()}) == 1


def test_real_paused_replay(site):
    """A follower that stopped replaying is behind by what was written since, the other is not."""
    site.followers[0].pause_replay()
    write(site)
    wait_until(lambda: found()["replica2"].lag.bytes == 0, "the other one catches up")
    statuses = found()
    assert statuses["replica1"].alive
    assert statuses["replica1"].lag.bytes > 20_000
    assert statuses["replica1"].lag.seconds > 0
    assert statuses["replica1"].position != statuses["default"].position
    # The leader writes a little by itself, now and then between one question and the next.
    wait_until(is_level("default", "replica2"), "the other one has replayed everything")


def is_level(leader, follower):
    def ask():
        statuses = found()
        return statuses[leader].position == statuses[follower].position

    return ask


def test_real_killed_follower(site):
    """A follower whose server is gone is down, by the driver's own words."""
    site.followers[0].kill()
    statuses = found()
    assert not statuses["replica1"].alive
    assert "failed" in statuses["replica1"].error
    assert "\n" not in statuses["replica1"].error
    assert statuses["replica2"].alive


def test_real_frozen_follower(site):
    """A server that accepts and does not answer is given its own connect timeout, no more."""
    site.followers[0].freeze()
    statuses = found()
    assert not statuses["replica1"].alive
    assert "timeout" in statuses["replica1"].error
    assert statuses["replica2"].alive


def test_real_leader_down(site):
    """Without its leader's position a follower's lag is not known, and the reason is said."""
    site.leader.kill()
    statuses = found()
    assert not statuses["default"].alive
    assert statuses["replica1"].position is not None
    assert statuses["replica1"].lag == Lag()
    assert statuses["replica1"].note == (
        "its lag is not known, because its leader tells no position"
    )


def test_real_roles_that_do_not_fit(site):
    """A standby that is called the leader, and a follower that is none, are told."""
    leader, replica1 = (connections.settings[alias] for alias in ("default", "replica1"))
    with databases_in_place({"default": replica1, "replica1": leader}):
        statuses = found()
    assert statuses["default"].note == "it is a standby: PostgreSQL refuses writes there"
    assert (
        statuses["replica1"].note
        == "it is no standby: what it may replicate logically has no position here"
    )
    assert statuses["replica1"].lag == Lag()


def test_real_position_that_cannot_be_read(site):
    """A server that refuses the question is alive, and says why it tells nothing."""
    site.leader.execute("REVOKE EXECUTE ON FUNCTION pg_last_wal_replay_lsn() FROM PUBLIC")
    site.wait_for_replay()
    try:
        status = found()["replica1"]
    finally:
        site.leader.execute("GRANT EXECUTE ON FUNCTION pg_last_wal_replay_lsn() TO PUBLIC")
    assert status.alive
    assert status.note.startswith("its position cannot be read: permission denied for function")


def test_looking_again_at_a_server_that_never_answers(monkeypatch):
    """A few threads are left behind by that, however often one looks."""
    thawed, asked = threading.Event(), []
    monkeypatch.setattr(status_module, "ANSWER_TIMEOUT", 0.05)
    monkeypatch.setattr(status_module, "CONNECT_TIMEOUT", 0.05)

    def freeze(connection, leads):
        asked.append(connection.alias)
        thawed.wait()
        return Progress()

    with monkeypatch.context() as frozen:
        frozen.setattr(status_module, "progress_of", freeze)
        try:
            before = threading.active_count()
            for _ in range(6):
                assert found()["replica1"].error == "no answer within 0.1 seconds"
            assert asked.count("replica1") == 2
        finally:
            thawed.set()
            wait_until(lambda: threading.active_count() <= before, "nobody is stuck")
    assert found()["replica1"].alive


def test_server_that_never_answers(monkeypatch):
    """A server without an answer is given up, and the other aliases are shown."""
    monkeypatch.setattr(status_module, "ANSWER_TIMEOUT", 0.1)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        entry = {
            **connections.settings["replica1"],
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": silent.getsockname()[1],
            # Less than psycopg's least of two seconds.
            "OPTIONS": {"connect_timeout": 0.1},
        }
        with databases_in_place({"replica1": entry}):
            statuses = found()
    assert statuses["replica1"].error == "no answer within 0.2 seconds"
    assert statuses["replica2"].alive
