"""One alias over real MariaDB servers."""

import os
from contextlib import ExitStack

import pytest
from django.db import OperationalError, connections

from django_replicas.exceptions import NoPeerError
from django_replicas.outages import Outage
from django_replicas.peers import peers_of
from servers.faults import Faults
from servers.mariadb import MariaDBNotFound, Server

from .peers import aliases, balanced, let_pass, meet, outages, who
from .peers_under_load import ask_while_shaken


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
        name: {**server.django_database(read_timeout=1), "PORT": str(ways[name].port)}
        for name, server in servers.items()
    }


@pytest.fixture
def many(entries):
    with aliases(**entries, many=balanced(*entries, CHECK_INTERVAL=60)):
        yield connections["many"]


def test_each_server_answers_for_itself(many):
    """MariaDB's engine, and the rows of the peer that the connection names."""
    seen = set()
    while len(seen) < 2:
        name = who()
        assert many.peer == name
        assert many.mysql_is_mariadb
        seen.add(name)


@pytest.mark.parametrize("fault", ["refuse", "reset", "blackhole"])
def test_a_fault_on_the_way(many, ways, fault, monkeypatch):
    """No new connection fails while the other peer can be reached; the first comes back."""
    getattr(ways["one"], fault)()
    meet("one", who)
    assert {who() for _ in range(10)} == {"two"}
    ways["one"].heal()
    let_pass(monkeypatch, 60)
    assert who() == "one"


def test_the_engine_by_its_older_name(entries, ways, monkeypatch):
    """"Failure of a peer is transparent to Django. Failed peers will recover after the configured
    CHECK_INTERVAL", says django-proxysql's README of this entry.
    """  # fmt: skip
    entry = {
        "ENGINE": "django_replicas.compat.django_proxysql.backends.proxysql",
        "PEERS": ["one", "two"],
        "CHECK_INTERVAL": 30,
    }
    with aliases(**entries, many=entry):
        ways["one"].refuse()
        meet("one", who)
        assert {who() for _ in range(10)} == {"two"}
        ways["one"].heal()
        let_pass(monkeypatch, 30)
        assert who() == "one"


def test_a_killed_server(many, servers, monkeypatch):
    """The driver's own errors are outages."""
    servers["one"].kill()
    try:
        meet("one", who)
        assert {who() for _ in range(10)} == {"two"}
    finally:
        servers["one"].start()
    let_pass(monkeypatch, 60)
    assert who() == "one"


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


def test_a_full_server_is_passed_over(many, servers, monkeypatch):
    """``max_user_connections`` has a SQLSTATE of another class, but is an outage."""
    many.close()
    servers["one"].execute("GRANT USAGE ON *.* TO app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
    holding = connections["one"].copy()
    try:
        holding.ensure_connection()
        with outages() as reasons:
            meet("one", who)
        assert reasons == [Outage.REFUSING]
    finally:
        holding.close()
        servers["one"].execute("GRANT USAGE ON *.* TO app@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
    let_pass(monkeypatch, 60)
    assert who() == "one"


def test_a_server_dies_and_returns_under_load(entries, servers):
    """From processes, threads and tasks, no new connection fails while one peer lives."""
    with aliases(**entries, many=balanced(*entries, CHECK_INTERVAL=0.2)):
        ask_while_shaken(servers, "one")


def test_all_down(many, ways):
    """The error names every peer and what it said."""
    for way in ways.values():
        way.refuse()
    with pytest.raises(NoPeerError, match=r"2003.*; .*2003"):
        who()
