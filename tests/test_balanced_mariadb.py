"""One alias over real MariaDB servers."""

import os
from contextlib import ExitStack

import pytest
from django.db import OperationalError, connections

from django_replicas.exceptions import NoPeerError
from django_replicas.outages import Outage
from django_replicas.peers import peers_of
from django_replicas.signals import peer_down
from servers.faults import Faults
from servers.mariadb import MariaDBNotFound, Server
from servers.waiting import wait_until

from .peers import aliases, balanced


@pytest.fixture(scope="module")
def servers():
    """Two servers, whose rows tell which one answers."""
    pymysql = pytest.importorskip("pymysql")
    pymysql.install_as_MySQLdb()
    with ExitStack() as stack:
        found = {}
        for name in ("one", "two"):
            try:
                found[name] = stack.enter_context(Server())
            except MariaDBNotFound as reason:
                if os.environ.get("CI") == "true":
                    pytest.fail(str(reason))
                pytest.skip(str(reason))
            found[name].execute(f"CREATE TABLE app.who SELECT '{name}' AS name")
        yield found


@pytest.fixture(scope="module")
def ways(servers):
    with ExitStack() as stack:
        yield {name: stack.enter_context(Faults(server.port)) for name, server in servers.items()}


@pytest.fixture
def entries(servers, ways):
    for way in ways.values():
        way.heal()
    # PyMySQL's connect_timeout ends with the handshake of TCP, so that a hung server needs both.
    return {
        name: {**server.django_database(read_timeout=2), "PORT": str(ways[name].port)}
        for name, server in servers.items()
    }


@pytest.fixture
def many(entries):
    with aliases(**entries, many=balanced(*entries, CHECK_INTERVAL=0.2)):
        yield connections["many"]


def who():
    connections["many"].close()
    with connections["many"].cursor() as cursor:
        cursor.execute("SELECT name FROM who")
        return cursor.fetchone()[0]


def meet(name):
    while peers_of("many").is_up(name):
        who()


def test_each_server_answers_for_itself(many):
    """MariaDB's engine, and the rows of the peer that the connection names."""
    seen = set()
    while len(seen) < 2:
        name = who()
        assert many.peer == name
        assert many.mysql_is_mariadb
        seen.add(name)


@pytest.mark.parametrize("fault", ["refuse", "reset", "blackhole"])
def test_a_fault_on_the_way(many, ways, fault):
    """No new connection fails while the other peer can be reached; the first comes back."""
    getattr(ways["one"], fault)()
    meet("one")
    assert {who() for _ in range(10)} == {"two"}
    ways["one"].heal()
    wait_until(lambda: who() == "one", "the peer is taken back")


def test_the_engine_by_its_older_name(entries, ways):
    """"Failure of a peer is transparent to Django. Failed peers will recover after the configured
    CHECK_INTERVAL", says django-proxysql's README of this entry.
    """  # fmt: skip
    entry = {
        "ENGINE": "django_replicas.compat.django_proxysql.backends.proxysql",
        "PEERS": ["one", "two"],
        "CHECK_INTERVAL": 0.2,
    }
    with aliases(**entries, many=entry):
        ways["one"].refuse()
        meet("one")
        assert {who() for _ in range(10)} == {"two"}
        ways["one"].heal()
        wait_until(lambda: who() == "one", "the peer is taken back")


def test_a_killed_server(many, servers):
    """The driver's own errors are outages."""
    servers["one"].kill()
    try:
        meet("one")
        assert {who() for _ in range(10)} == {"two"}
    finally:
        servers["one"].start()
    wait_until(lambda: who() == "one", "the peer is taken back")


@pytest.mark.parametrize(
    ("wrong", "number"), [({"PASSWORD": "wrong"}, "1045"), ({"NAME": "missing"}, "104[49]")]
)
def test_what_the_server_objects_to_is_told(entries, wrong, number):
    """A wrong password and a missing database are mistakes, not outages."""
    entries["one"] = {**entries["one"], **wrong}
    with aliases(**entries, many=balanced("one")):
        with pytest.raises(OperationalError, match=number) as raised:
            who()
        assert not isinstance(raised.value, NoPeerError)
        assert peers_of("many").is_up("one")


def test_a_full_server_is_passed_over(many, servers):
    """``max_user_connections`` has a SQLSTATE of another class, but is an outage."""
    reasons = []

    def listen(reason, **told):
        reasons.append(reason)

    peer_down.connect(listen)
    many.close()
    servers["one"].execute("GRANT USAGE ON *.* TO app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
    holding = connections["one"].copy()
    try:
        holding.ensure_connection()
        meet("one")
        assert reasons == [Outage.REFUSING]
    finally:
        holding.close()
        peer_down.disconnect(listen)
        servers["one"].execute("GRANT USAGE ON *.* TO app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
    wait_until(lambda: who() == "one", "the peer is taken back")


def test_all_down(many, ways):
    """The error names every peer and what it said."""
    for way in ways.values():
        way.refuse()
    with pytest.raises(NoPeerError, match=r"2003.*; .*2003"):
        who()
