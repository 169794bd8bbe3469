"""Whoever does not answer in time is hung up on, on real sockets."""

import os
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pymysql
import pytest
from django.db import OperationalError, connection, connections

from django_replicas.hangup import Watch, hung_up_after
from servers.mariadb import MariaDBNotFound, Server
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound
from servers.waiting import wait_until


@pytest.fixture
def line():
    """Two ends of a connection; nobody says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


def test_a_wait_that_is_too_long_ends(line):
    """The socket reads its end, whatever the other side does."""
    ours, _ = line
    with Watch().at_most(0.05, ours.fileno()):
        assert ours.recv(1) == b""


def test_a_wait_that_ends_in_time_is_left_alone(line):
    """Not a moment after it either."""
    ours, theirs = line
    watch = Watch()
    with watch.at_most(0.01, ours.fileno()):
        theirs.send(b"x")
        assert ours.recv(1) == b"x"
    with watch.at_most(0.02, _another(line)), suppress(OSError):
        select.select([line[0]], [], [], 0.1)
    theirs.send(b"y")
    assert ours.recv(1) == b"y"


def _another(line):
    """Return a file of another connection, to be shut down while the first lives."""
    pair = socket.socketpair()
    _kept.append(pair)
    return pair[0].fileno()


_kept = []


def test_an_error_inside_passes(line):
    """Nothing is changed about it, and the socket is left alone."""
    ours, theirs = line
    with pytest.raises(ZeroDivisionError), Watch().at_most(60, ours.fileno()):
        raise ZeroDivisionError
    theirs.send(b"x")
    assert ours.recv(1) == b"x"


def test_several_waits_at_once():
    """The shortest ends first, though it began last; one thread sees to all of them."""
    watch = Watch()
    pairs = [socket.socketpair() for _ in range(3)]
    ended = []

    def wait(number, seconds):
        with watch.at_most(seconds, pairs[number][0].fileno()):
            pairs[number][0].recv(1)
            ended.append(number)

    before = threading.active_count()
    threads = []
    for number, seconds in enumerate([60, 0.3, 0.05]):
        threads.append(threading.Thread(target=wait, args=(number, seconds)))
        threads[-1].start()
    threads[1].join()
    threads[2].join()
    assert ended == [2, 1]
    assert threading.active_count() == before + 2  # the first wait, and the watch
    pairs[0][1].send(b"x")
    threads[0].join()
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_socket_that_is_closed_meanwhile_is_no_error():
    """It is gone; there is nothing to hang up on."""
    watch = Watch()
    one, other = socket.socketpair()
    file = os.dup(one.fileno())
    with watch.at_most(0.01, file):
        os.close(file)
        other.close()
        one.close()
        pair = socket.socketpair()
        with watch.at_most(0.05, pair[0].fileno()):
            pair[0].recv(1)
    for end in pair:
        end.close()


FORKS = """
import ctypes, os, socket, sys
from django_replicas.hangup import Watch

watch = Watch()
pair = socket.socketpair()
with watch.at_most(0.01, pair[0].fileno()):
    pair[0].recv(1)
child = {"by Python": os.fork, "by a server": ctypes.PyDLL(None).fork}[sys.argv[1]]()
if child == 0:
    pair = socket.socketpair()
    with watch.at_most(0.01, pair[0].fileno()):
        pair[0].recv(1)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("forked", ["by Python", "by a server"])
def test_it_goes_on_in_a_forked_process(forked):
    """Threads are not forked; the child has one of its own, also where nobody told Python."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS, forked]
    assert subprocess.run(command, timeout=60, check=False).returncode == 7


def test_a_process_that_nobody_told_of_the_fork(line, monkeypatch):
    """Its process being another than before, the thread that it had is not there."""
    watch, pid = Watch(), os.getpid()
    watch._is_running = True
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    line[0].settimeout(10)
    with watch.at_most(0.01, line[0].fileno()):
        assert line[0].recv(1) == b""


def test_where_no_thread_can_be_started(line, monkeypatch):
    """It is an error of the database's, and nothing is left that could be shut down later."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    watch = Watch()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OperationalError, match="No thread"), watch.at_most(1, line[0].fileno()):
            pass
    assert not watch._waited_for
    with watch.at_most(0.01, line[0].fileno()):
        assert line[0].recv(1) == b""


# Databases


def test_a_driver_without_a_socket_waits_as_long_as_it_does():
    """SQLite waits for nobody."""
    connection.ensure_connection()
    with hung_up_after(connection, 0.001), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def skip(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


def asks(statement):
    with hung_up_after(connections["replica1"], 0.2), connections["replica1"].cursor() as cursor:
        cursor.execute(statement)


def test_a_frozen_postgresql_is_left(databases_are):
    """The driver says that the connection is lost, and another one can be opened."""
    try:
        with Cluster(standbys=0) as cluster:
            databases_are(replica1=cluster.leader.django_database())
            asks("SELECT 1")
            cluster.leader.freeze()
            with pytest.raises(OperationalError):
                asks("SELECT 1")
            cluster.leader.thaw()
            connections["replica1"].close()
            asks("SELECT 1")
            with pytest.raises(OperationalError):
                asks("SELECT pg_sleep(60)")
            connections["replica1"].close()
    except PostgresNotFound as reason:
        skip(reason)


def test_a_mariadb_that_does_not_answer_is_left(databases_are):
    """PyMySQL, too, says that the connection is lost."""
    pymysql.install_as_MySQLdb()
    try:
        server = Server()
    except MariaDBNotFound as reason:
        skip(reason)
    with server:
        databases_are(replica1=server.django_database())
        asks("SELECT 1")
        with pytest.raises(OperationalError):
            asks("SELECT SLEEP(60)")
        connections["replica1"].close()
        asks("SELECT 1")
        connections["replica1"].close()


def test_the_watch_sleeps_when_nobody_waits(line):
    """What ended in time is not kept."""
    watch = Watch()
    for _ in range(100):
        with watch.at_most(0.02, line[0].fileno()):
            pass
    with watch.at_most(0.03, _another(line)):
        _kept[-1][0].recv(1)
    wait_until(lambda: not watch._deadlines, "all is forgotten")
