"""Followers that lag, on real servers and as an ordinary role."""

import os
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pymysql
import pytest
from django.core.management import call_command
from django.db import connections
from django.db.backends.signals import connection_created

from django_replicas import follower, get_follower, unit_of_work
from django_replicas import followers as followers_module
from django_replicas.conf import get_config
from django_replicas.explain import explain
from django_replicas.followers import Followers
from django_replicas.replication import CUT_OFF
from django_replicas.signals import follower_caught_up, follower_down, follower_lags
from django_replicas.status import examine, status_lines
from servers import mariadb
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until

from .peers import balanced
from .shop.models import Book

ALIASES = ("default", "replica1", "replica2")
FOLLOWERS = {"replica1", "replica2"}


class Clock:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Have this process know its followers by a clock that is moved by hand."""
    clock = Clock()

    monkeypatch.setattr(followers_module, "Followers", partial(Followers, clock=clock))
    return clock


def known():
    return followers_module.followers_of(get_config().topology.by_leader["default"])


def chosen(times=30):
    """Return all the aliases that so many units were given."""
    return {unit_of_work(get_follower)("default") for _ in range(times)}


@pytest.fixture
def told():
    """List what listeners are told."""
    told = []

    def hear(signal, sender, alias, leader, **details):
        names = {follower_lags: "lags", follower_caught_up: "caught up", follower_down: "down"}
        told.append((names[signal], alias))

    signals = follower_lags, follower_caught_up, follower_down
    for each in signals:
        each.connect(hear)
    yield told
    for each in signals:
        each.disconnect(hear)


@contextmanager
def opened():
    """List the aliases that are connected to, and whether it is by this thread."""
    attempts = []

    def note(connection, **kwargs):
        attempts.append((connection.alias, threading.current_thread() is here))

    here = threading.current_thread()
    connection_created.connect(note)
    try:
        yield attempts
    finally:
        connection_created.disconnect(note)


@pytest.fixture(scope="module", params=[16, 18])
def cluster(request):
    try:
        find_bindir(request.param)
    except PostgresNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with Cluster(standbys=2, major=request.param) as cluster:
        cluster.leader.execute("CREATE TABLE note (text text)")
        yield cluster


@pytest.fixture
def site(cluster, databases_are, settings, clock):
    """Have the servers behind the tests' main set; what a test does to them is undone."""
    cluster.wait_for_replay()
    servers = dict(zip(ALIASES, (cluster.leader, *cluster.followers), strict=True))
    databases_are(**{alias: server.django_database() for alias, server in servers.items()})

    def configure(**keys):
        settings.REPLICAS = {
            "SETS": {"default": ["replica1", "replica2"]},
            "MAX_LAG": 0.3,
            "CHECK_TIMEOUT": 10,
            **keys,
        }

    def write(text="x"):
        cluster.leader.execute("INSERT INTO note VALUES (%s)", text)

    configure()
    yield SimpleNamespace(**servers, configure=configure, write=write, cluster=cluster, clock=clock)
    connections.close_all()
    for server in servers.values():
        server.start()
        server.thaw()
        wait_until(lambda: server.execute("SELECT 1") == [(1,)], f"{server} answers")  # noqa: B023
    for server in cluster.followers:
        server.resume_replay()
        wait_until(lambda: receives(server), f"{server} receives")  # noqa: B023


def receives(server):
    return server.execute("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)") == [(True,)]


def is_quiet(server):
    """Tell whether the last write is longer ago than the followers may be behind."""
    age = "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > '0.4 s'"
    return server.execute(age) == [(True,)]


def lag_is_measured_until(condition, clock, what):
    """Let the next measurement begin, and wait for what it finds."""
    clock.now += 1000
    known().is_near("replica1")
    wait_until(condition, what)


def test_an_idle_leader(site, caplog):
    """Nothing was written for longer than a follower may be behind: nobody lags."""
    site.write()
    site.cluster.wait_for_replay()
    wait_until(lambda: is_quiet(site.replica1), "the last write is old")
    assert chosen() == FOLLOWERS
    assert caplog.records == []


def test_a_follower_that_lags(site, told, caplog):
    """It is passed over as long as it does, and one line and one signal tell of each change."""
    caplog.set_level("INFO", "django_replicas")
    assert chosen() == FOLLOWERS
    site.replica1.pause_replay()
    site.write()
    lag_is_measured_until(lambda: told, site.clock, "the lag is noticed")
    assert chosen() == {"replica2"}
    assert told == [("lags", "replica1")]
    site.clock.now += 1000
    assert chosen() == {"replica2"}
    site.replica1.resume_replay()
    site.cluster.wait_for_replay()
    lag_is_measured_until(lambda: len(told) == 2, site.clock, "that it caught up is noticed")
    assert chosen() == FOLLOWERS
    assert told == [("lags", "replica1"), ("caught up", "replica1")]
    began, ended = caplog.records
    assert began.levelname == "WARNING"
    assert "'replica1' of 'default' is passed over: it is at most " in began.getMessage()
    assert ended.levelname == "INFO"
    assert ended.getMessage() == "Follower 'replica1' of 'default' has caught up."


def test_all_lag(site, caplog):
    """The leader serves, also where a follower is asked for by name."""
    for server in site.cluster.followers:
        server.pause_replay()
    site.write()
    wait_until(lambda: is_quiet(site.replica2), "the last write that they show is old")
    assert chosen() == {"default"}
    with follower("default"):
        assert get_follower("default") == "default"
    assert [each.levelname for each in caplog.records] == ["WARNING", "WARNING", "ERROR"]
    assert caplog.records[-1].getMessage().startswith("No follower of 'default' is left")


def test_bytes(site, told):
    """A paused follower is read from until there is more than so much that it has not replayed."""
    site.configure(MAX_LAG="64kB")
    site.replica1.pause_replay()
    site.write()
    assert chosen() == FOLLOWERS
    site.write("x" * 100_000)
    # What compresses well takes less room in the log.
    site.cluster.leader.execute("SELECT pg_logical_emit_message(true, '', repeat('x', 100000))")
    lag_is_measured_until(lambda: told, site.clock, "the lag is noticed")
    assert chosen() == {"replica2"}


def test_a_dead_receiver(site, told, caplog):
    """A follower that nothing reaches any more lags, though it shows all that was written."""
    assert chosen() == FOLLOWERS
    ((conninfo,),) = site.replica1.execute("SHOW primary_conninfo")
    site.replica1.execute("ALTER SYSTEM SET primary_conninfo = ''")
    site.replica1.execute("SELECT pg_reload_conf()")
    wait_until(lambda: not receives(site.replica1), "the receiver is gone")
    lag_is_measured_until(lambda: told, site.clock, "that nothing arrives is noticed")
    assert chosen() == {"replica2"}
    assert CUT_OFF in caplog.text
    quoted = conninfo.replace("'", "''")
    site.replica1.execute(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
    site.replica1.execute("SELECT pg_reload_conf()")
    wait_until(lambda: receives(site.replica1), "the receiver is back")
    lag_is_measured_until(lambda: len(told) == 2, site.clock, "that it is back is noticed")
    assert chosen() == FOLLOWERS


def nothing_is_measured():
    return known()._measurer._measurement._room._value == 10


def test_how_often(site):
    """Once in each interval, however many read; by another thread, whose connections are closed."""
    with opened() as attempts:
        assert chosen(10) <= FOLLOWERS
        site.clock.now += 9
        chosen(10)
        wait_until(nothing_is_measured, "what has begun is over")
        assert attempts.count(("default", False)) == 1
        site.clock.now += 1000
        chosen(10)
        wait_until(lambda: attempts.count(("replica2", False)) == 2, "all are measured again")
        wait_until(nothing_is_measured, "what has begun is over")
    assert attempts.count(("default", False)) == 2
    assert ("default", True) not in attempts
    mine = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND pid <> pg_backend_pid()"
    wait_until(lambda: site.default.execute(mine) == [(0,)], "no connection to the leader is left")


def test_nothing_is_measured_without_a_limit(site):
    """Who sets no ``MAX_LAG`` has no connection more than before."""
    site.configure(MAX_LAG=None)
    site.replica1.pause_replay()
    site.write()
    with opened() as attempts:
        assert chosen() == FOLLOWERS
    assert sorted(attempts) == [("replica1", True), ("replica2", True)]
    site.replica1.resume_replay()


def test_a_frozen_follower_at_the_beginning(site, told):
    """The first read waits for it no longer than ``CHECK_TIMEOUT``, and it counts as down."""
    site.configure(CHECK_TIMEOUT=0.3)
    site.replica1.freeze()
    with opened() as attempts:
        assert "replica1" not in chosen(1)
        wait_until(lambda: ("down", "replica1") in told, "it is given up")
        wait_until(lambda: ("replica2", False) in attempts, "the other one is measured")
        wait_until(lambda: known().is_near("replica2"), "and can be read from")
        assert chosen() == {"replica2"}
    assert told == [("down", "replica1")]


def test_a_follower_that_was_down(site, told):
    """It is not read from before it has been measured again."""
    site.configure(DOWNTIME=0.001)
    assert chosen() == FOLLOWERS
    connections["replica1"].close()
    site.replica1.kill()
    lag_is_measured_until(lambda: told, site.clock, "that it is down is noticed")
    site.replica1.start()
    wait_until(lambda: receives(site.replica1), "it replicates again")
    assert chosen() == {"replica2"}
    assert told == [("down", "replica1")]
    lag_is_measured_until(lambda: known().is_near("replica1"), site.clock, "it is measured")
    assert chosen() == FOLLOWERS


def test_a_leader_that_is_down(site, caplog):
    """Who is not known to lag is read from: a leader that is down would serve nobody."""
    site.replica2.pause_replay()
    site.write()
    wait_until(lambda: is_quiet(site.replica2), "the last write that it shows is old")
    assert chosen() == {"replica1"}
    site.default.kill()
    wait_until(lambda: not receives(site.replica1), "nothing arrives any more")
    for number in (2, 2):
        site.clock.now += 1000
        chosen(1)
        wait_until(lambda: len(caplog.records) == number, "it is told once")  # noqa: B023
    assert chosen() == {"replica1"}
    assert "How far behind 'default' its followers are cannot be measured" in caplog.text


def test_a_leader_that_is_down_at_the_beginning(site):
    """A process that starts then knows nothing of lag, and reads from followers."""
    site.default.kill()
    assert chosen() == FOLLOWERS


def test_a_leader_that_does_not_tell(site, caplog):
    """Where the role may not ask, ``MAX_LAG`` has no effect, and the log says so and why."""
    refuse = "REVOKE EXECUTE ON FUNCTION pg_current_wal_flush_lsn() FROM PUBLIC"
    site.default.execute(refuse)
    try:
        assert chosen() == FOLLOWERS
    finally:
        site.default.execute(refuse.replace("REVOKE", "GRANT").replace("FROM", "TO"))
    (record,) = caplog.records
    assert "permission denied for function pg_current_wal_flush_lsn" in record.getMessage()


def test_peers_are_measured_one_by_one(site, databases_are, told, caplog):
    """Which of them the next read goes to is not known: the one furthest behind decides."""
    databases_are(peers=balanced("replica1", "replica2", "nobody"), nobody=NOBODY)
    site.configure(SETS={"default": ["peers"]})
    assert chosen(3) == {"peers"}
    site.replica2.pause_replay()
    site.write()
    lag_is_measured_until(lambda: told, site.clock, "the lag is noticed")
    assert chosen(3) == {"default"}
    assert "'peers' of 'default' is passed over: its peer 'replica2': it is at most" in caplog.text


NOBODY = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "1", "NAME": "x"}


def test_a_leader_with_peers(site, databases_are):
    """One that answers will do, and its followers are not taken for it, whoever their peers are."""
    databases_are(
        default=balanced("nobody", "lead"), lead=site.default.django_database(), nobody=NOBODY
    )
    databases_are(peers=balanced("replica1"))
    site.configure(SETS={"default": ["peers"]})
    site.replica1.pause_replay()
    site.write()
    wait_until(lambda: is_quiet(site.replica1), "the last write that it shows is old")
    assert chosen(3) == {"default"}


def test_a_leader_by_another_name(site, databases_are):
    """At home and in tests a follower may be its leader, which is never behind itself."""
    same = site.default.django_database()
    databases_are(default=same, replica1=same, replica2=site.replica2.django_database())
    assert chosen() == FOLLOWERS


def test_a_follower_that_is_no_standby(site, told):
    """One that was promoted, or never followed, has a position that says nothing."""
    with Cluster(standbys=0) as stranger:
        database = stranger.leader.django_database()
        connections["replica1"].settings_dict.update(
            PORT=database["PORT"], PASSWORD=database["PASSWORD"]
        )
        assert chosen() == {"replica2"}
    assert told == [("lags", "replica1")]


def test_a_thread_whose_unit_has_no_end(site, settings, told):
    """It leaves a follower that begins to lag."""
    site.configure(OUTSIDE_UNITS="routed")
    settings.DATABASE_ROUTERS = ["django_replicas.routers.GreedyPinRouter"]

    def alias():
        return Book.objects.all().db

    first = alias()
    assert first in FOLLOWERS
    getattr(site, first).pause_replay()
    site.write()
    lag_is_measured_until(lambda: told, site.clock, "the lag is noticed")
    assert {alias() for _ in range(5)} == FOLLOWERS - {first}


def test_what_the_command_shows(site):
    """The text below the table says who is passed over, and why."""
    site.replica1.pause_replay()
    site.write()
    wait_until(lambda: is_quiet(site.replica1), "the last write that it shows is old")
    seen = examine(get_config().topology.sets)
    assert [bool(each.lags) for each in seen] == [False, True, False]
    assert status_lines(seen)[-1].startswith("replica1: it is at most ")
    site.configure(MAX_LAG=None)
    assert [each.lags for each in examine(get_config().topology.sets)] == [None] * 3


def test_what_the_command_shows_of_a_dead_receiver(site):
    """It is said once, with a limit and without."""
    site.replica1.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = 60000")
    site.replica1.execute("SELECT pg_reload_conf()")
    try:
        site.default.kill()
        wait_until(lambda: not receives(site.replica1), "the receiver is gone")
        site.default.start()
        for limit in (1, None):
            site.configure(MAX_LAG=limit)
            lines = status_lines(examine(get_config().topology.sets))
            assert lines.count(f"replica1: {CUT_OFF}") == 1
    finally:
        site.replica1.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = 200")
        site.replica1.execute("SELECT pg_reload_conf()")


def test_what_explain_says(site, capsys):
    """The limit, and whom this process passes over; nobody is measured for it."""

    def said():
        return [fact for number, fact in explain(Book).facts if "MAX_LAG" in fact]

    with opened() as attempts:
        assert said() == ["MAX_LAG is 0.3 s. This process knows of none that is behind."]
    assert attempts == []
    site.replica1.pause_replay()
    site.write()
    wait_until(lambda: is_quiet(site.replica1), "the last write that it shows is old")
    chosen(1)
    (fact,) = said()
    assert fact.startswith("MAX_LAG is 0.3 s. This process passes over replica1 (it is at most ")
    assert explain(Book).facts[-1][1].startswith("This process knows of no follower that is down.")
    call_command("replicas", "explain", "shop.Book")
    assert "passes over replica1" in capsys.readouterr().out


def test_sqlite(clock, settings):
    """Files do not replicate, so nothing can lag and nothing is asked."""
    settings.REPLICAS = {**settings.REPLICAS, "MAX_LAG": 1}
    with opened() as attempts:
        assert chosen() == FOLLOWERS
    assert {by_this_thread for _, by_this_thread in attempts} == {True}


def test_no_thread_to_measure_with(site, monkeypatch):
    """A machine that is out of threads reads the leader, and fails no request."""

    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        assert chosen(3) == {"default"}


# MariaDB


@pytest.fixture(scope="module")
def pair():
    pymysql.install_as_MySQLdb()
    try:
        leader, replica = mariadb.Server(), mariadb.Server(number=2)
    except mariadb.MariaDBNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with leader, replica:
        replica.follow(leader)
        leader.execute("CREATE TABLE app.note (id INT)")
        yield leader, replica


@pytest.fixture
def maria(pair, databases_are, settings, clock):
    leader, replica = pair
    replica.wait_for(leader)
    databases_are(default=leader.django_database(), replica1=replica.django_database())
    settings.REPLICAS = {
        "SETS": {"default": ["replica1"]},
        "MAX_LAG": 0.3,
        "CHECK_TIMEOUT": 10,
    }
    yield SimpleNamespace(leader=leader, replica=replica, clock=clock)
    connections.close_all()
    replica.execute("START SLAVE")
    leader.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    replica.wait_for(leader)


def test_a_mariadb_follower_that_has_caught_up(maria, caplog):
    """An ordinary user is told enough."""
    assert chosen(3) == {"replica1"}
    assert caplog.records == []


@pytest.mark.parametrize("thread", ["SQL_THREAD", "IO_THREAD"])
def test_a_dead_thread_of_a_mariadb_follower(maria, told, caplog, thread):
    """Whichever it is, an ordinary user sees that it does not run, and that it is back."""
    assert chosen(1) == {"replica1"}
    maria.replica.execute(f"STOP SLAVE {thread}")
    lag_is_measured_until(lambda: told, maria.clock, "it is noticed")
    assert chosen(3) == {"default"}
    assert CUT_OFF in caplog.text
    maria.replica.execute(f"START SLAVE {thread}")
    wait_until(
        lambda: "ON" in maria.replica.execute("SHOW GLOBAL STATUS LIKE 'Slave_running'"),
        "it runs again",
    )
    lag_is_measured_until(lambda: len(told) == 2, maria.clock, "that it is back is noticed")
    assert chosen(3) == {"replica1"}


def test_a_mariadb_follower_that_lags(maria, told, caplog):
    """Its threads run, and what it has not applied is older than it may be."""
    assert chosen(1) == {"replica1"}
    with held_back(maria):
        lag_is_measured_until(lambda: told, maria.clock, "the lag is noticed")
        assert chosen(3) == {"default"}
    assert "it is at most 1000.0 s behind, and MAX_LAG is 0.3 s" in caplog.text


def test_a_mariadb_follower_that_lags_from_the_beginning(maria, caplog):
    """For how long, nobody knows."""
    with held_back(maria):
        assert chosen(3) == {"default"}
    assert "nobody knows for how long it has been behind" in caplog.text


@contextmanager
def held_back(maria):
    """Have something written that the follower can only apply after the block."""
    maria.replica.execute("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 3600; START SLAVE")
    maria.leader.execute("INSERT INTO app.note VALUES (1)")
    wait_until(
        lambda: "ON" in maria.replica.execute("SHOW GLOBAL STATUS LIKE 'Slave_running'"),
        "both threads run",
    )
    try:
        yield
    finally:
        maria.replica.execute("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE")


def test_bytes_on_mariadb(maria, settings, caplog):
    """Its positions count transactions."""
    settings.REPLICAS = {**settings.REPLICAS, "MAX_LAG": "16MB"}
    assert chosen(3) == {"default"}
    assert "its lag is not known in bytes" in caplog.text
