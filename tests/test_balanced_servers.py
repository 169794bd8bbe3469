"""One alias over real servers: two majors of PostgreSQL, MariaDB, and ways to them that fail."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from django_replicas import hangup
from django_replicas.exceptions import NoPeerError
from django_replicas.followers import Followers
from django_replicas.outages import Outage
from django_replicas.peers import peers_of
from django_replicas.topology import ReplicaSet
from servers.faults import Faults
from servers.postgres import Cluster
from servers.waiting import wait_until

from .peers import aliases, balanced, is_down, let_pass, meet, outages, who, who_is_it
from .peers_under_load import ask_while_shaken

ROWS = ("CREATE TABLE who (name text)", "INSERT INTO who VALUES ('{}')")


@pytest.fixture(scope="module")
def servers():
    """Three servers of PostgreSQL, two majors among them; each row tells which one it is."""
    with ExitStack() as stack:
        found = {}
        for name, major in (("old", 16), ("new", 18), ("third", 18)):
            found[name] = stack.enter_context(Cluster(standbys=0, major=major)).leader
            make_rows(found[name], name)
        yield found


def make_rows(server, name):
    for statement in ROWS:
        server.execute(statement.format(name))
    server.execute("GRANT ALL ON who TO app")


@pytest.fixture(scope="module")
def ways(servers):
    with ExitStack() as stack:
        yield {name: stack.enter_context(Faults(server.port)) for name, server in servers.items()}


@pytest.fixture
def entries(servers, ways):
    """The peers' own entries, each leading through the way to it, all ways being good."""
    for way in ways.values():
        way.heal()
    for server in servers.values():
        server.start()
    yield {
        name: {**server.django_database(), "PORT": str(ways[name].port)}
        for name, server in servers.items()
    }
    for server in servers.values():
        server.thaw()


# Without migrations, because those of PostgreSQL want another order of tables than ours have.
OWN = {"CHECK_INTERVAL": 60, "TEST": {"MIGRATE": False}}


@pytest.fixture
def many(entries):
    with aliases(**entries, many=balanced(*entries, **OWN)):
        yield connections["many"]


@pytest.fixture
def impatient(entries):
    """The same alias, whose peers are soon tried again."""
    with aliases(**entries, many=balanced(*entries, CHECK_INTERVAL=0.2)):
        yield connections["many"]


def test_each_server_answers_for_itself(many, servers):
    """The peer that a connection names is the one whose rows it reads, whatever its major."""
    seen = set()
    while len(seen) < 3:
        name = who()
        assert many.peer == name
        assert many.pg_version // 10000 == (16 if name == "old" else 18)
        seen.add(name)


@pytest.mark.parametrize("fault", ["refuse", "reset", "blackhole"])
def test_a_fault_on_the_way(many, ways, monkeypatch, fault):
    """No new connection fails while another peer can be reached; the peer comes back."""
    getattr(ways["old"], fault)()
    meet("old", who)
    assert {who() for _ in range(20)} <= {"new", "third"}
    ways["old"].heal()
    let_pass(monkeypatch, OWN["CHECK_INTERVAL"])
    assert who() == "old"
    assert not is_down("old")


def test_a_hung_server_costs_one_attempt_in_each_interval(many, servers, ways, monkeypatch):
    """Others go on while one thread waits for it, and nobody tries it before its time."""
    servers["old"].freeze()
    meet("old", who)
    before = ways["old"].accepted()
    assert asked_by_threads() == {"new", "third"}
    assert ways["old"].accepted() == before
    let_pass(monkeypatch, OWN["CHECK_INTERVAL"])
    assert asked_by_threads() == {"new", "third"}
    assert ways["old"].accepted() == before + 1


def asked_by_threads():
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask_often) for _ in range(4)]
    return set().union(*(future.result() for future in futures))


def ask_often(times=20):
    try:
        return {who() for _ in range(times)}
    finally:
        connections.close_all()


def test_a_wrong_password_is_told(entries, servers):
    """It is a mistake of somebody's, and hidden as an outage it would never be found."""
    entries["old"] = {**entries["old"], "PASSWORD": "wrong"}
    with aliases(**entries, many=balanced("old")):
        with pytest.raises(OperationalError, match="password authentication failed") as raised:
            who()
        assert not isinstance(raised.value, NoPeerError)
        assert not is_down("old")


def test_no_password_at_all_is_told(entries):
    """The server asked for one, and libpq had none."""
    entries["old"] = {**entries["old"], "PASSWORD": ""}
    with aliases(**entries, many=balanced("old")):
        with pytest.raises(OperationalError, match="no password supplied") as raised:
            who()
        assert not isinstance(raised.value, NoPeerError)


def test_a_missing_database_is_told(entries):
    """The other peers may have it; this one is not as it should be."""
    entries["old"] = {**entries["old"], "NAME": "missing"}
    with aliases(**entries, many=balanced("old")):
        with pytest.raises(OperationalError, match="does not exist") as raised:
            who()
        assert not isinstance(raised.value, NoPeerError)


def test_a_full_server_is_passed_over(many, servers, monkeypatch):
    """``too_many_connections`` is an outage, though the server answers."""
    servers["old"].execute("ALTER ROLE app CONNECTION LIMIT 0")
    try:
        with outages() as reasons:
            meet("old", who)
        assert reasons == [Outage.REFUSING]
    finally:
        servers["old"].execute("ALTER ROLE app CONNECTION LIMIT -1")
    let_pass(monkeypatch, OWN["CHECK_INTERVAL"])
    assert who() == "old"


def test_all_down(many, ways):
    """The error names every peer and what it said."""
    for way in ways.values():
        way.refuse()
    with pytest.raises(OperationalError) as raised:
        who()
    for name, way in ways.items():
        assert f"{name}: connection failed: " in str(raised.value)
        assert f"port {way.port} failed: Connection refused" in str(raised.value)


# Persistent connections and pools


def test_a_connection_lost_between_requests(entries, servers):
    """With health checks it is opened again, on another peer."""
    own = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    with aliases(**entries, many=balanced(*entries, **own)):
        first = who()
        servers[first].kill()
        connections["many"].close_if_unusable_or_obsolete()
        assert who_is_it() != first


def test_a_server_that_hangs_between_requests(entries, servers):
    """The check of a connection that was kept ends with ``connect_timeout``; others serve."""
    own = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    hurried(entries)
    with aliases(**entries, many=balanced(*entries, **own)):
        first = who()
        servers[first].freeze()
        try:
            connections["many"].close_if_unusable_or_obsolete()
            connections["many"].close_if_health_check_failed()
            assert is_down(first)
            assert who_is_it() != first
        finally:
            servers[first].thaw()


def test_a_connection_that_is_closed_is_not_usable(many):
    """There is no socket any more to wait on, and nobody to be left alone."""
    peer = who()
    many.connection.close()
    assert not many.is_usable()
    assert not is_down(peer)


def test_a_look_that_nobody_could_end(many, monkeypatch):
    """It is not taken: the connection is opened anew, and nobody is left alone."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    peer = who()
    monkeypatch.setattr(hangup, "_watch", hangup.Watch())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not many.is_usable()
    assert not is_down(peer)
    assert many.is_usable()


def hurried(entries):
    """Have less than the two seconds that libpq takes at least."""
    for entry in entries.values():
        entry["OPTIONS"] = {**entry["OPTIONS"], "connect_timeout": 1}


# Who waits in vain does so for its timeout.
POOL = {"min_size": 1, "max_size": 2, "timeout": 0.5}


@pytest.fixture
def pooled(entries):
    """The same with a pool for each peer."""
    for entry in entries.values():
        entry["OPTIONS"] = {**entry["OPTIONS"], "pool": POOL}
        entry["CONN_HEALTH_CHECKS"] = True
    own = balanced(*entries, CHECK_INTERVAL=0.2)
    with aliases(**entries, many=own):
        yield connections["many"]
        for name in entries:
            connections[name].close_pool()


def test_each_peer_has_its_own_pool(pooled, entries):
    """It is the very pool of the peer's alias, and what comes from it leads there."""
    seen = set()
    while len(seen) < 3:
        name = who()
        assert pooled.peer == name
        assert pooled.pool is connections[name].pool
        assert pooled.connection._pool is pooled.pool
        seen.add(name)
    assert set(pooled._connection_pools) == set(entries)


def test_a_pool_whose_server_is_dead(pooled, servers):
    """It has no connection to give, and another pool serves."""
    seen = set()
    while len(seen) < 3:
        seen.add(who())
    pooled.close()
    servers["old"].kill()
    lost = connections["old"].pool
    meet("old", who)
    assert {who() for _ in range(10)} == {"new", "third"}
    servers["old"].start()
    wait_until(lambda: who() == "old", "the restarted server is taken back")
    # It would have waited for longer and longer before it tried its server again.
    assert lost.closed
    assert connections["old"].pool is not lost


def test_an_empty_pool_is_not_down(pooled, entries):
    """Its server takes connections; another pool serves meanwhile, and nobody is left alone."""
    taken = taken_from("old")
    pooled.settings_dict["PEERS"] = ["old", "new"]
    pooled.settings_dict["BALANCE"] = "round_robin"
    pooled.ensure_connection()
    first = pooled.peer
    pooled.close()
    pooled.ensure_connection()
    assert (first, pooled.peer) == ("new", "new")
    assert peers_of("many").is_up("old")
    for each in taken:
        each.close()


def taken_from(name):
    """Return connections that are all a pool has."""
    taken = [connections[name].copy() for _ in range(POOL["max_size"])]
    for each in taken:
        each.ensure_connection()
    return taken


def test_a_follower_whose_pool_is_empty_is_not_down(pooled):
    """Somebody else serves this once."""
    followers = Followers(ReplicaSet("default", ("old",)))
    taken = taken_from("old")
    assert not followers.opens("old")
    assert followers.down_for("old") is None
    for each in taken:
        each.close()
    assert followers.opens("old")
    connections["old"].close()


def test_databases_of_another_name_have_other_pools(pooled, servers):
    """A test's database is not reached through the pool of the real one."""
    servers["old"].execute("CREATE DATABASE elsewhere OWNER app")
    pooled.settings_dict.update(NAME="elsewhere", PEERS=["old"])
    pooled.ensure_connection()
    with pooled.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("elsewhere",)
    assert "old/elsewhere" in pooled._connection_pools
    pooled.close()
    pooled.close_pool()
    servers["old"].execute("DROP DATABASE elsewhere")


# Test databases


def test_a_test_database(many, servers):
    """It is made on the first peer, and the alias keeps to it until it is destroyed."""
    before = {**connections.settings["many"]}
    connections["many"].creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        assert connections.settings["many"]["NAME"] == "test_app"
        for _ in range(5):
            many.close()
            many.ensure_connection()
            assert (many.peer, many.settings_dict["NAME"]) == ("old", "test_app")
        seen = in_a_thread(lambda: (connections["many"].settings_dict["NAME"], whose()))
        assert seen == ("test_app", "old")
        assert "shop_book" in many.introspection.table_names()
    finally:
        connections["many"].creation.destroy_test_db("app", verbosity=0)
    assert connections.settings["many"] == before
    assert {who() for _ in range(30)} == set(servers)


def whose():
    connections["many"].ensure_connection()
    return connections["many"].peer


def in_a_thread(work, *arguments):
    def run():
        try:
            return work(*arguments)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_the_databases_of_parallel_workers(many):
    """Each worker's threads find the worker's own database."""
    creation = connections["many"].creation
    creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        creation.clone_test_db("1", verbosity=0, autoclobber=True)
        before = {**connections.settings["many"]}
        creation.setup_worker_connection(1)
        assert connections.settings["many"]["NAME"] == "test_app_1"
        assert in_a_thread(whose) == "old"
        connections.settings["many"].update(before)
        many.settings_dict["NAME"] = "test_app"
        creation.destroy_test_db(suffix="1", verbosity=0)
    finally:
        creation.destroy_test_db("app", verbosity=0)


def test_a_mirror(many):
    """What mirrors another alias has its name on every peer, in every thread."""
    before = {**connections.settings["many"]}
    many.creation.set_as_test_mirror({"NAME": "postgres"})
    assert connections.settings["many"]["NAME"] == "postgres"
    connections.settings["many"].update(before)


def test_it_is_one_database_with_its_peer(many):
    """Where both are tested, the test database is made once."""
    assert many.creation.test_db_signature() == connections["old"].creation.test_db_signature()


def test_dbshell(many, ways, monkeypatch):
    """psql goes where a connection could be opened."""
    ran = []
    monkeypatch.setattr("subprocess.run", lambda args, **kwargs: ran.append(args))
    ways["old"].refuse()
    ways["new"].reset()
    call_command("dbshell", database="many")
    assert ran[0][ran[0].index("-p") + 1] == str(ways["third"].port)


# Under load


def test_a_server_dies_and_returns_under_load(impatient, servers):
    """From processes, threads and tasks, no new connection fails while one peer lives."""
    impatient.close()
    ask_while_shaken(servers, "old")
