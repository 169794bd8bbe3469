"""Marks on real PostgreSQL: what they must not miss when followers lag, die and come back."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial

import psycopg
import pytest
from django.db import OperationalError, close_old_connections, connections
from django.http import HttpResponse
from django.test import RequestFactory

from django_replicas import pin, unit_of_work
from django_replicas.jobs import Job, marks_to_send
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.peers import forget_peers, peers_of
from django_replicas.scopes import current_unit
from servers.faults import Faults
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until

from .pages import blocks_of, python_of
from .peers import balanced
from .shop.models import Shelf

FOLLOWERS = {"replica1", "replica2"}
ROWS = "SELECT name FROM shop_shelf"


@pytest.fixture(scope="module", params=[16, 18])
def cluster(request):
    try:
        find_bindir(request.param)
    except PostgresNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with Cluster(standbys=2, major=request.param) as cluster:
        cluster.leader.execute(
            "CREATE TABLE shop_shelf (id bigserial PRIMARY KEY, name varchar(50))"
        )
        cluster.leader.execute("INSERT INTO shop_shelf VALUES (1, '0')")
        cluster.leader.execute("ALTER TABLE shop_shelf OWNER TO app")
        yield cluster


@pytest.fixture
def site(cluster, databases_are):
    """Have the servers behind the aliases, all of them well, and nothing known of them."""
    cluster.leader.execute("UPDATE shop_shelf SET name = '0'")
    begin_from_here(cluster)
    replica1, replica2 = cluster.followers
    site = {"default": cluster.leader, "replica1": replica1, "replica2": replica2}
    databases_are(**{alias: entry(server) for alias, server in site.items()})
    yield site
    for server in cluster.followers:
        server.start()
        server.delay_replay(0)
        server.resume_replay()


def begin_from_here(cluster):
    """Have all servers equal, and a follower that is restarted replay nothing from before."""
    cluster.leader.execute("CHECKPOINT")
    cluster.wait_for_replay()
    for server in cluster.followers:
        server.execute("CHECKPOINT")


KEPT = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}


def entry(server):
    return {**server.django_database(), **KEPT}


@pytest.fixture
def configure(settings):
    """Change keys of ``REPLICAS`` for one test."""

    def change(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return change


def test_connection_that_its_server_ended_outside_requests(site, configure):
    """It is opened anew by the thread's next unit; the follower was never down."""
    configure(SETS={"default": ["replica1"]}, DOWNTIME=3600)
    with unit_of_work():
        assert place() == "replica1"
        site["replica1"].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
        )
        with pytest.raises(OperationalError):
            place()
    assert connections["replica1"].connection.closed
    with unit_of_work():
        assert place() == "replica1"


def place():
    return Shelf.objects.get(pk=1)._state.db


def name():
    return Shelf.objects.get(pk=1).name


def write(text):
    """Write in a unit of its own; return what it hands on."""
    with unit_of_work():
        Shelf.objects.filter(pk=1).update(name=text)
        return marks_to_send()


def read(marks):
    """Read in a later unit; return what was read, and the one alias that it was read from."""
    with Job(marks):
        shown = {name() for _ in range(3)}
        ((alias, _),) = current_unit().counts
    return (*shown, alias)


@contextmanager
def questions():
    """Collect the statements in which followers are asked for their position."""
    asked = []

    def listen(execute, sql, params, many, context):
        if "pg_last_wal_replay_lsn" in sql:
            asked.append(context["connection"].alias)
        return execute(sql, params, many, context)

    with ExitStack() as listening:
        for alias in connections:
            if alias != "default":
                listening.enter_context(connections[alias].execute_wrapper(listen))
        yield asked


def in_a_thread(work, *arguments):
    """Do some work in a thread that has no connections yet, as the next request's may have none."""
    results = []

    def run():
        try:
            results.append(work(*arguments))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("how", ["killed", "crashed"])
def test_a_follower_that_goes_back_in_time(site, configure, how):
    """A standby replays again what it had shown, after a restart: it is asked once more.

    One whose child crashed ends all connections and begins anew as well, in the same process.
    """
    configure(SETS={"default": ["replica1"]})
    follower = site["replica1"]
    marks = write("1")
    wait_until(lambda: read(marks) == ("1", "replica1"), "the follower shows it")
    follower.delay_replay(60_000)
    if how == "killed":
        follower.kill()
        follower.start()
    else:
        crash(connections["replica1"])
    wait_until(lambda: shown_by(follower) == [("0",)], "it is back where it was")
    assert in_a_thread(read, marks) == ("1", "default")
    assert read(marks) == ("1", "default")
    assert {in_a_thread(read, marks) for _ in range(3)} == {("1", "default")}


def crash(connection):
    """End the server's child that serves a connection, as a kernel does that is out of memory."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    os.kill(pid, signal.SIGKILL)


def shown_by(server):
    try:
        return server.execute(ROWS)
    except psycopg.OperationalError:
        return None


def test_two_servers_behind_one_address(site, cluster, configure, databases_are):
    """One of them has caught up, the other has not: each connection is asked for itself."""
    configure(SETS={"default": ["replica1"]})
    replica1, replica2 = cluster.followers
    with Faults(replica1.port) as balancer:
        databases_are(replica1={**entry(replica1), "PORT": str(balancer.port)})
        replica2.pause_replay()
        marks = write("1")
        wait_until(lambda: read(marks) == ("1", "replica1"), "the follower shows it")
        balancer.lead_to(replica2.port)
        assert in_a_thread(read, marks) == ("1", "default")
        assert read(marks) == ("1", "replica1")
        connections["replica1"].close()


# Several servers behind one alias


@pytest.fixture
def peers(site, configure, databases_are):
    """Have one follower with both standbys as its peers; replica2 shows nothing new."""
    databases_are(peers=balanced("replica1", "replica2", BALANCE="round_robin", **KEPT))
    forget_peers()
    configure(SETS={"default": ["peers"]})
    site["replica2"].pause_replay()
    return site


def reopened(alias="peers"):
    """Open the alias's connection anew; return the peer whose turn it was."""
    connections[alias].close()
    connections[alias].ensure_connection()
    return connections[alias].peer


def test_peers_that_are_not_equally_far(peers):
    """Who reopens its connection on the other peer has that one asked, and reads nothing stale."""
    marks = write("1")
    wait_until(lambda: peers["replica1"].execute(ROWS) == [("1",)], "one peer shows it")
    answers = {(reopened(), read(marks)) for _ in range(10)}
    assert answers == {("replica1", ("1", "peers")), ("replica2", ("1", "default"))}
    peers["replica2"].resume_replay()
    wait_until(lambda: peers["replica2"].execute(ROWS) == [("1",)], "the other one does, too")
    answers = {(reopened(), read(marks)) for _ in range(10)}
    assert answers == {("replica1", ("1", "peers")), ("replica2", ("1", "peers"))}


def test_a_connection_that_is_reopened_within_a_unit(peers):
    """The unit's follower is another server then: it is asked, and the leader goes on."""
    marks = write("1")
    wait_until(lambda: peers["replica1"].execute(ROWS) == [("1",)], "one peer shows it")
    wait_until(lambda: reopened() == "replica1", "it is its turn")
    with Job(marks):
        assert name() == "1"
        assert dict(named(current_unit().counts)) == {"peers": 1}
        assert reopened() == "replica2"
        assert name() == "1"
        assert dict(named(current_unit().counts)) == {"peers": 1, "default": 1}


def named(counts):
    """Return how often each alias answered, for whatever reason."""
    answered = Counter()
    for (alias, _), times in counts.items():
        answered[alias] += times
    return answered


@pytest.fixture
def kept(peers):
    """Have a connection to each peer, as threads keep them."""
    opened = [connections["peers"], connections["peers"].copy()]
    for each in opened:
        each.ensure_connection()
    yield {each.peer: each for each in opened}
    connections["peers"], another = opened
    another.close()


def read_over(connection, marks):
    connections["peers"] = connection
    return read(marks)


def test_what_one_peer_has_says_nothing_of_another(peers, kept):
    """Over connections that are kept, whichever of them heard of a position last."""
    for text in "123":
        marks = write(text)
        wait_until(lambda: peers["replica1"].execute(ROWS) == [(text,)], "one shows it")  # noqa: B023
        assert read_over(kept["replica1"], marks) == (text, "peers")
        assert read_over(kept["replica2"], marks) == (text, "default")


def test_each_peer_is_asked_once(peers, kept):
    """What is known of one is not forgotten because another was asked in between."""
    peers["replica2"].resume_replay()
    marks = write("1")
    for server in ("replica1", "replica2"):
        wait_until(lambda: peers[server].execute(ROWS) == [("1",)], "it is shown")  # noqa: B023
    with ExitStack() as listening:
        asked = []
        for each in kept.values():
            listening.enter_context(each.execute_wrapper(partial(note_question, asked)))
        for _ in range(5):
            answers = {read_over(connection, marks) for connection in kept.values()}
            assert answers == {("1", "peers")}
        assert sorted(asked) == ["replica1", "replica2"]


def test_a_peer_that_hangs(peers, kept, configure):
    """It is given up when the check has taken too long, and another one serves this unit."""
    configure(CHECK_TIMEOUT=0.2)
    marks = write("1")
    wait_until(lambda: peers["replica1"].execute(ROWS) == [("1",)], "the other one shows it")
    peers["replica2"].freeze()
    try:
        assert read_over(kept["replica2"], marks) == ("1", "peers")
        assert connections["peers"].peer == "replica1"
        assert not peers_of("peers").is_up("replica2")
    finally:
        peers["replica2"].thaw()


def test_the_only_peer_hangs(site, configure, databases_are):
    """Then the leader serves, and the follower is left alone."""
    configure(SETS={"default": ["peers"]}, CHECK_TIMEOUT=0.2)
    databases_are(peers=balanced("replica1", **KEPT))
    forget_peers()
    connections["peers"].ensure_connection()
    marks = write("1")
    site["replica1"].freeze()
    try:
        assert read(marks) == ("1", "default")
    finally:
        site["replica1"].thaw()


def note_question(asked, execute, sql, params, many, context):
    if "pg_last_wal_replay_lsn" in sql:
        asked.append(context["connection"].peer)
    return execute(sql, params, many, context)


# GitLab's old bugs


def test_one_that_has_caught_up_says_nothing_of_another(site, configure):
    """A mark is reached by a follower, not once and for all."""
    configure(BALANCE="round_robin", CHECK_INTERVAL=0.1)
    site["replica2"].pause_replay()
    marks = write("1")
    wait_until(lambda: ("1", "replica1") in [read(marks), read(marks)], "replica1 shows it")
    assert {read(marks) for _ in range(20)} <= {("1", "replica1"), ("1", "default")}
    site["replica2"].resume_replay()
    wait_until(lambda: ("1", "replica2") in [read(marks), read(marks)], "replica2 shows it")


def test_a_mark_that_is_reached_takes_no_newer_one_along(site, configure):
    """A response that was asked for before a write and comes after it leaves the new mark alone."""
    configure(SETS={"default": ["replica1"]})
    _, cookies = ask("POST", {})
    wait_until(lambda: ask("GET", cookies)[0] == "POST replica1", "the follower shows it")
    site["replica1"].pause_replay()
    _, newer = ask("PUT", cookies)
    # It only reads, its mark is reached, and its answer is the last to arrive.
    shown, late = ask("GET", cookies)
    assert (shown, late) == ("POST replica1", {})
    assert ask("GET", {**cookies, **newer, **late})[0] == "PUT default"


def ask(method, cookies):
    """Ask for a page that writes the name of an unsafe method; return it and the cookies set."""
    request = RequestFactory().generic(method, "/")
    request.COOKIES = cookies
    response = ReplicasMiddleware(page)(request)
    set_here = {name: morsel.value for name, morsel in response.cookies.items()}
    return response.content.decode(), set_here


def page(request):
    if request.method != "GET":
        Shelf.objects.filter(pk=1).update(name=request.method)
    shelf = Shelf.objects.get(pk=1)
    return HttpResponse(f"{shelf.name} {shelf._state.db}")


def test_what_an_older_mark_asks_for_is_in_the_newer_one(site, configure):
    """A unit hands on what it came with, too: here a pin that no position can end."""
    configure(SETS={"default": ["replica1"]})
    with unit_of_work():
        pin("default")
        older = marks_to_send()
    with Job(older):
        Shelf.objects.filter(pk=1).update(name="1")
        newer = marks_to_send()
    wait_until(lambda: site["replica1"].execute(ROWS) == [("1",)], "the follower shows it")
    assert read(newer) == ("1", "default")


def test_a_list_of_followers_that_changes(site, configure, databases_are):
    """A follower that was put in another's place between the check and the read is not read."""
    configure(SETS={"default": ["replica1"]})
    site["replica2"].pause_replay()
    marks = write("1")
    wait_until(lambda: read(marks) == ("1", "replica1"), "the follower shows it")
    with Job(marks):
        assert name() == "1"
        configure(SETS={"default": ["replica2"]})
        assert {name() for _ in range(3)} == {"1"}
    assert read(marks) == ("1", "default")


def test_one_question_for_each_unit(site, cluster, configure, databases_are):
    """However many followers there are, at most one of them is asked, and once."""
    more = {f"more{number}": entry(cluster.followers[number % 2]) for number in range(6)}
    databases_are(**more)
    configure(SETS={"default": ["replica1", "replica2", *more]})
    for server in cluster.followers:
        server.pause_replay()
    marks = write("1")
    for _ in range(10):
        with Job(marks), questions() as asked:
            assert {name() for _ in range(3)} == {"1"}
        assert len(asked) == 1
    for server in cluster.followers:
        server.resume_replay()
    cluster.wait_for_replay()
    counts = []
    for _ in range(40):
        with Job(marks), questions() as asked:
            assert {name() for _ in range(3)} == {"1"}
        counts.append(len(asked))
    assert max(counts) <= 1
    # Each connection is asked once, and nobody any more when all are known to have it.
    assert sum(counts) <= 2 + 6


def test_a_job_that_starts_before_replication(site):
    """It reads the leader, not what the followers still show."""
    for alias in FOLLOWERS:
        site[alias].pause_replay()
    marks = write("1")
    for alias in FOLLOWERS:
        assert site[alias].execute(ROWS) == [("0",)]
    assert in_a_thread(read, marks) == ("1", "default")


# Followers that die under load

THREADS = 6
DOWNTIME = 0.5


@contextmanager
def load(databases_are, **ways):
    """Have threads read in units of their own, some followers being behind these ways.

    Counts who answered, and under "failed" the units that nobody did.
    """
    results, lock, has_ended = Counter(), threading.Lock(), threading.Event()
    databases_are(
        **{
            alias: {**connections.settings[alias], "PORT": str(way.port), "OPTIONS": PLAIN}
            for alias, way in ways.items()
        }
    )

    def read_on():
        try:
            while not has_ended.is_set():
                close_old_connections()
                answer = answer_of_a_unit()
                with lock:
                    results[answer] += 1
        finally:
            connections.close_all()

    threads = [threading.Thread(target=read_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        has_ended.set()
        for thread in threads:
            thread.join()


# Else the library knocks more than once in one attempt.
PLAIN = {"connect_timeout": 2, "sslmode": "disable", "gssencmode": "disable"}


def answer_of_a_unit():
    try:
        with unit_of_work():
            shelf = Shelf.objects.get(pk=1)
    except OperationalError:
        return "failed"
    return shelf._state.db


def allowed_attempts(began):
    """Return how often one process may try: each thread that knew no better, then in turn."""
    return THREADS + (time.monotonic() - began) / DOWNTIME + 1


def test_a_dead_follower_under_load(site, configure, databases_are):
    """Nobody fails but whom it takes with it, and it is tried once in its downtime."""
    configure(DOWNTIME=DOWNTIME)
    with Faults(site["replica2"].port) as way, load(databases_are, replica2=way) as results:
        wait_until(lambda: results["replica2"] > 20, "the follower serves")
        opened, began = way.accepted(), time.monotonic()
        way.reset()
        served = results["replica1"]
        wait_until(lambda: results["replica1"] > served + 500, "the other one goes on")
        attempts, allowed = way.accepted() - opened, allowed_attempts(began)
        assert results["failed"] <= THREADS
        assert 0 < attempts <= allowed
        way.heal()
        served = results["replica2"]
        wait_until(lambda: results["replica2"] > served + 20, "it serves again")
    assert results["failed"] <= THREADS
    assert "default" not in results


def test_all_followers_dead_under_load(site, configure, databases_are):
    """The leader serves, and those who hang up on everybody are hardly visited any more."""
    configure(DOWNTIME=DOWNTIME)
    with Faults(site["replica1"].port) as one, Faults(site["replica2"].port) as other:
        one.reset()
        other.reset()
        began = time.monotonic()
        with load(databases_are, replica1=one, replica2=other) as results:
            wait_until(lambda: results["default"] > 500, "the leader serves")
            attempts, allowed = [one.accepted(), other.accepted()], allowed_attempts(began)
        assert {*results} == {"default"}
        assert 0 < min(attempts) <= max(attempts) <= allowed


# What the documentation shows


def test_aliases_that_survive_a_failover(cluster, site, databases_are, settings):
    """Of servers that are each a follower while they are a standby, the leader is passed over."""
    shown = {}
    exec(python_of("howto/patroni")[0], shown)
    servers = dict(zip(shown["NODES"], [cluster.leader, *cluster.followers], strict=True))
    ports = {each: str(server.port) for each, server in servers.items()}
    told = {"default": ",".join(ports.values()), **ports}
    databases_are(
        **{
            alias: {
                **cluster.leader.django_database(),
                "HOST": ",".join(["127.0.0.1"] * (ports.count(",") + 1)),
                "PORT": ports,
                "OPTIONS": shown["DATABASES"][alias]["OPTIONS"],
            }
            for alias, ports in told.items()
        }
    )
    settings.REPLICAS = shown["REPLICAS"]
    leader, *standbys = shown["NODES"]
    answered = Counter()
    for _ in range(10):
        shown_by = read(write("written"))
        answered[shown_by[-1]] += 1
        with unit_of_work():
            name()
            ((alias, _),) = current_unit().counts
        answered[alias] += 1
    assert leader not in answered, answered
    assert answered[standbys[0]] + answered[standbys[1]] >= 10, answered


OF_THE_LOG = (
    "pg_current_wal_flush_lsn()",
    "pg_current_wal_insert_lsn()",
    "pg_walfile_name(pg_lsn)",
    "pg_last_wal_replay_lsn()",
)


def test_the_grant_of_the_page(cluster, site, settings):
    """What was taken from everybody is given back to the role, by the leader alone."""
    (grant,) = [each.code for each in blocks_of("howto/managed-postgresql") if "GRANT" in each.code]
    revoke = f"REVOKE EXECUTE ON FUNCTION {', '.join(OF_THE_LOG)} FROM PUBLIC"
    cluster.leader.execute(revoke)
    try:
        assert ":p" not in write("by the clock")
        settings.REPLICAS = {**settings.REPLICAS}  # So that the leader is asked again at once.
        cluster.leader.execute(grant.replace("shop", "app"))
        cluster.wait_for_replay()
        marks = write("by position")
        assert ":p" in marks
        cluster.wait_for_replay()
        assert read(marks)[0] == "by position"
    finally:
        cluster.leader.execute(revoke.replace("REVOKE", "GRANT").replace("FROM", "TO"))
