"""Which follower: one choice for each unit, found alive where it is about to be read."""

import asyncio
import os
import selectors
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import psycopg
import psycopg.sql
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DEFAULT_DB_ALIAS,
    OperationalError,
    close_old_connections,
    connections,
    models,
    router,
    transaction,
)
from django.db.backends.signals import connection_created

from django_replicas import (
    bind,
    follower,
    get_follower,
    get_replica,
    is_pinned,
    pin,
    settling,
    unit_of_work,
    unpin_all,
)
from django_replicas.conf import get_config
from django_replicas.followers import Followers, followers_of
from django_replicas.liveness import Liveness
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until

from .shop.models import Book, Label, Shelf

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

    @cache
    def followers_by_clock(replica_set):
        return Followers(replica_set, Liveness(replica_set.downtime, clock))

    monkeypatch.setattr(settling, "followers_of", followers_by_clock)
    return clock


@pytest.fixture
def configure(settings):
    """Change keys of ``REPLICAS`` for one test."""

    def change(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return change


@pytest.fixture
def move(monkeypatch, tmp_path):
    """Move an alias's database away, so that connecting to it fails, and back again."""

    def change(alias, *, back=False):
        connections[alias].close()
        name = places[alias] if back else str(tmp_path / "gone" / "file.sqlite3")
        monkeypatch.setitem(connections.settings[alias], "NAME", name)

    places = {alias: connections.settings[alias]["NAME"] for alias in connections}
    return change


def the_set(**changes):
    return replace(get_config().topology.by_leader["default"], **changes)


def title():
    return Book.objects.get(pk=1).title


@unit_of_work
def read_in_a_unit():
    return title()


def closing(work):
    """Have *work* close the connections of the thread that it runs in."""

    def run(*args):
        try:
            return work(*args)
        finally:
            connections.close_all()

    return run


# Balance


def test_random():
    """With ``random`` the injected pick decides where to begin."""
    picks = iter([0, 0, 1, 1, 0])
    chosen = Followers(the_set(), pick=lambda count: next(picks))
    assert [chosen.choose() for _ in range(4)] == ["replica1", "replica2", "replica2", "replica1"]


def test_round_robin():
    """With ``round_robin`` they take turns, from a first one that differs between processes."""
    ranges = []

    def pick(count):
        ranges.append(count)
        return 1

    chosen = Followers(the_set(balance="round_robin"), pick=pick)
    assert [chosen.choose() for _ in range(4)] == ["replica1", "replica2"] * 2
    assert ranges == [2]


def test_round_robin_passes_over_what_is_down(move):
    """Those that are up take all the turns."""
    move("replica1")
    chosen = Followers(the_set(balance="round_robin"), pick=lambda count: 0)
    assert {chosen.choose() for _ in range(6)} == {"replica2"}


def test_round_robin_in_threads():
    """Turns are not lost between threads."""
    chosen = Followers(the_set(balance="round_robin"))
    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(lambda _: chosen.name(), range(1000)))
    assert answers == {"replica1": 500, "replica2": 500}


@pytest.mark.parametrize("balance", ["random", "round_robin"])
def test_units_use_all_followers(balance, configure):
    """Units spread over the followers, each of them keeping to one."""
    configure(BALANCE=balance)
    assert {read_in_a_unit() for _ in range(40)} == FOLLOWERS


def test_named_first():
    """A follower that was named is asked first, whoever's turn it is."""
    chosen = Followers(the_set(), pick=lambda count: 0)
    assert [chosen.choose("replica2"), chosen.choose("replica1")] == ["replica2", "replica1"]


def test_named_first_is_down(move):
    """A named follower that is down is passed over like any other."""
    move("replica2")
    chosen = Followers(the_set(), pick=lambda count: 0)
    assert [chosen.choose("replica2"), chosen.choose("replica2")] == ["replica1", "replica1"]
    assert connections["replica2"].connection is None


def test_choice_is_open():
    """The chosen follower's connection is open when it is answered, and no other one is."""
    alias = Followers(the_set()).choose()
    (other,) = FOLLOWERS - {alias}
    assert connections[alias].connection is not None
    assert connections[other].connection is None
    assert connections["default"].connection is None


def test_name_opens_nothing(move):
    """``name`` knows what is known, and asks nobody."""
    chosen = Followers(the_set())
    assert chosen.name() in FOLLOWERS
    assert all(connections[alias].connection is None for alias in FOLLOWERS)
    move("replica1")
    assert chosen.choose("replica1") == "replica2"
    assert {chosen.name() for _ in range(20)} == {"replica2"}
    move("replica2")
    assert chosen.choose("replica2") is None
    assert chosen.name() is None


# Followers that cannot be reached


def test_unreachable(move, caplog):
    """No read fails, the other follower serves, and the log says it once."""
    move("replica1")
    assert {read_in_a_unit() for _ in range(40)} == {"replica2"}
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "Follower 'replica1' of 'default' cannot be reached and is left alone for 10 seconds: "
            "unable to open database file",
        )
    ]


def test_none_left(move, caplog):
    """With none left the leader serves, and one line says so."""
    move("replica1")
    move("replica2")
    assert {read_in_a_unit() for _ in range(20)} == {"default"}
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["No follower of 'default' is left: its leader serves all reads."]
    with unit_of_work():
        title()
        assert current_unit().counts == {("default", Reason.NO_FOLLOWER): 1}
    with follower("default"):
        assert title() == "default"
    with unit_of_work(), follower("default"):
        assert title() == "default"
        assert current_unit().counts == {("default", Reason.NO_FOLLOWER): 1}


def test_none_left_for_this_unit(move, clock):
    """A unit that found none stays with the leader; the next one sees who is back."""
    move("replica1")
    move("replica2")
    with unit_of_work():
        assert title() == "default"
        move("replica2", back=True)
        clock.now += 10
        assert title() == "default"
    assert read_in_a_unit() == "replica2"


def test_no_followers_at_all(configure, caplog):
    """A set without followers is served by its leader, which is nothing to report."""
    configure(SETS={"default": []})
    with unit_of_work():
        assert title() == "default"
        assert current_unit().counts == {("default", Reason.NO_FOLLOWER): 1}
        assert get_follower("default") == "default"
    assert not caplog.records


def test_left_alone_for_the_downtime(move, clock, caplog):
    """One that was down is tried again after the downtime, by one unit, and comes back."""
    attempts = counted_attempts("replica1")
    move("replica1")
    with attempts as made:
        assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
        clock.now += 9.9
        assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
        assert len(made) == 1
        clock.now += 0.1
        assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
        assert len(made) == 2
    move("replica1", back=True)
    clock.now += 10
    assert read_in_a_unit() == "replica1"
    assert {read_in_a_unit() for _ in range(40)} == FOLLOWERS
    assert len(caplog.records) == 1


def test_return_is_logged(move, clock, caplog):
    """That a follower is back is logged for information."""
    caplog.set_level("INFO", "django_replicas")
    move("replica1")
    move("replica2")
    assert read_in_a_unit() == "default"
    move("replica2", back=True)
    clock.now += 10
    assert read_in_a_unit() == "replica2"
    assert [record.levelname for record in caplog.records][-1] == "INFO"
    assert caplog.records[-1].getMessage() == "Follower 'replica2' of 'default' is back."


def test_downtime_of_the_set(move, clock, configure):
    """``DOWNTIME`` may differ from set to set."""
    configure(SETS={"default": {"FOLLOWERS": ["replica1"], "DOWNTIME": 60}})
    move("replica1")
    with counted_attempts("replica1") as made:
        for _ in range(7):
            clock.now += 10
            assert read_in_a_unit() == "default"
        assert (clock.now - 1000, len(made)) == (70, 2)


def test_downtime_by_the_usual_clock(move, configure):
    """Without a clock of our own the downtime is the set's, on a monotonic one."""
    configure(SETS={"default": {"FOLLOWERS": ["replica1"], "DOWNTIME": 1e-9}})
    move("replica1")
    with counted_attempts("replica1") as made:
        assert [read_in_a_unit() for _ in range(3)] == ["default"] * 3
    assert len(made) == 3


def test_settings_changed(move, configure):
    """What is known of followers is forgotten when the settings change."""
    move("replica1")
    assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
    assert followers_of(the_set()) is followers_of(the_set())
    known = followers_of(the_set())
    configure(TRACE=False)
    assert followers_of(the_set()) is not known


def test_other_settings_changed(settings):
    """It is kept when other settings do."""
    known = followers_of(the_set())
    settings.USE_TZ = False
    assert followers_of(the_set()) is known


def test_broken_configuration_is_no_dead_follower(configure):
    """An alias that is not in ``DATABASES`` is an error, not a follower that happens to be down."""
    configure(SETS={"default": ["nowhere"]})
    with unit_of_work(), pytest.raises(Exception, match="'nowhere' doesn't exist"):
        title()


def test_incomplete_configuration_is_no_dead_follower(monkeypatch, configure):
    """Settings that Django cannot connect with are an error as well."""
    configure(SETS={"default": ["replica1"]})
    monkeypatch.setitem(connections.settings["replica1"], "NAME", "")
    with unit_of_work(), pytest.raises(ImproperlyConfigured, match="supply the NAME value"):
        title()


@contextmanager
def counted_attempts(alias):
    """Collect the attempts to open a connection to an alias."""
    wrapper = type(connections[alias])
    connect = wrapper.get_new_connection
    made = []

    def get_new_connection(self, parameters):
        if self.alias == alias:
            made.append(threading.get_ident())
        return connect(self, parameters)

    wrapper.get_new_connection = get_new_connection
    try:
        yield made
    finally:
        wrapper.get_new_connection = connect


# One choice for each unit


def test_one_choice(configure):
    """Router, ``get_follower`` and ``follower`` blocks agree, whoever is asked first."""
    configure(BALANCE="round_robin")
    for _ in range(4):
        with unit_of_work():
            chosen = get_follower("default")
            assert chosen in FOLLOWERS
            assert {title() for _ in range(5)} == {chosen}
            with follower("default"):
                assert title() == chosen
            with pin("default"), follower("default"):
                assert title() == chosen
            assert get_follower("default") == get_replica("default") == chosen


def test_choice_opens_one_connection(configure):
    """However a unit's follower is asked for, no other is opened for it."""
    configure(BALANCE="round_robin")
    for ask in (title, read_in_a_block, lambda: get_follower("default")):
        connections.close_all()
        with unit_of_work():
            (chosen,) = {ask() for _ in range(5)}
            assert {alias for alias in connections if connections[alias].connection} == {chosen}


def read_in_a_block():
    with follower("default"):
        return title()


def test_choice_despite_pins():
    """``get_follower`` is for reading a follower in spite of everything."""
    with unit_of_work(), pin("default"), transaction.atomic():
        assert get_follower("default") in FOLLOWERS


def test_choice_after_unpin_all(configure):
    """A fresh start chooses anew."""
    configure(BALANCE="round_robin")
    with unit_of_work():
        first = title()
        unpin_all()
        assert {first, title()} == FOLLOWERS


def test_choices_outside_units(configure):
    """Outside units each call chooses."""
    configure(BALANCE="round_robin")
    first = get_follower("default")
    assert {first, get_follower("default")} == FOLLOWERS


def test_follower_of_what_has_none():
    """For an alias that leads nothing the answer is that alias."""
    assert get_follower("lonely") == "lonely"
    with unit_of_work():
        assert get_follower("lonely") == "lonely"


def test_choice_of_several_threads(configure):
    """Threads of one unit that choose at the same moment agree."""
    configure(BALANCE="round_robin")
    together = threading.Barrier(8)

    @closing
    def read(_):
        together.wait(30)
        return get_follower("default"), title(), title()

    for _ in range(20):
        with unit_of_work(), ThreadPoolExecutor(8) as pool:
            answers = {alias for answer in pool.map(bind(read), range(8)) for alias in answer}
            assert len(answers) == 1
            assert answers < FOLLOWERS
            assert {reason for _, reason in current_unit().counts} == {Reason.FOLLOWER}


def test_one_prober(move, clock):
    """When the downtime is over, one of many threads tries; the others go on without waiting."""
    move("replica1")
    assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
    clock.now += 10
    together = threading.Barrier(8)

    @closing
    def read(_):
        together.wait(30)
        return read_in_a_unit()

    with counted_attempts("replica1") as made, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {"replica2"}
    assert len(made) == 1


# On an event loop


async def test_follower_on_the_loop():
    """On the loop a follower is named without any I/O, the same one for the whole unit."""
    opened = []

    def note(connection, **kwargs):
        opened.append(connection.alias)

    connection_created.connect(note)
    try:
        with unit_of_work():
            named = get_follower("default")
            assert named in FOLLOWERS
            assert {get_follower("default") for _ in range(20)} == {named}
            assert opened == []
            try:
                assert await asyncio.to_thread(closing(title)) == named
            finally:
                connection_created.disconnect(note)
            assert opened == [named]
            assert get_follower("default") == named
    finally:
        connection_created.disconnect(note)


async def test_follower_on_the_loop_proves_down(move):
    """A follower that was named on the loop and is down is replaced where it can be tried."""
    with unit_of_work():
        named = get_follower("default")
        await asyncio.to_thread(move, named)
        (other,) = FOLLOWERS - {named}
        assert await asyncio.to_thread(closing(title)) == other
        assert get_follower("default") == other


async def test_follower_on_the_loop_none_left(move):
    """Where all are known to be down the leader is named."""
    await asyncio.to_thread(move, "replica1")
    await asyncio.to_thread(move, "replica2")
    assert await asyncio.to_thread(closing(read_in_a_unit)) == "default"
    with unit_of_work():
        assert get_follower("default") == "default"
    assert get_follower("default") == "default"


async def test_follower_on_the_loop_outside_units():
    """Outside units each call on the loop names one."""
    assert {get_follower("default") for _ in range(40)} == FOLLOWERS


async def test_reads_on_the_loop():
    """What the router answers on the loop is the leader, and settles nothing."""
    with unit_of_work():
        assert router.db_for_read(Book) == "default"
        with follower("default"):
            assert router.db_for_read(Book) == "default"
        assert current_unit().counts == {("default", Reason.EVENT_LOOP): 2}
        assert await asyncio.to_thread(closing(title)) in FOLLOWERS


# Real servers


def skip_or_fail(error):
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster():
    try:
        find_bindir()
    except PostgresNotFound as error:
        skip_or_fail(error)
    with Cluster(standbys=2) as cluster:
        yield cluster


class ServerPort(models.Func):
    """The port of the server that answers."""

    function = "inet_server_port"
    output_field = models.IntegerField()


def answering_port():
    return Book.objects.annotate(port=ServerPort()).get(pk=1).port


@unit_of_work
def port_in_a_unit():
    return answering_port()


class Site:
    """The aliases of the tests' main set, on real servers."""

    def __init__(self, cluster):
        replica1, replica2 = cluster.followers
        self.servers = {"default": cluster.leader, "replica1": replica1, "replica2": replica2}

    def __getitem__(self, alias):
        return self.servers[alias]

    def alias_at(self, port):
        return next(alias for alias, server in self.servers.items() if server.port == port)


@contextmanager
def databases_in_place(databases):
    """Have these entries of ``DATABASES`` in the place of the tests' own."""
    configured = connections.configure_settings({DEFAULT_DB_ALIAS: {}, **databases})
    before = {alias: connections.settings[alias] for alias in databases}
    replace_databases({alias: configured[alias] for alias in databases})
    try:
        yield
    finally:
        replace_databases(before)


def replace_databases(entries):
    for alias, entry in entries.items():
        connections[alias].close()
        del connections[alias]
        connections.settings[alias] = entry


@pytest.fixture(scope="module")
def tables(cluster, django_db_blocker):
    """Make the tables and one row on the leader, and wait until the followers show them."""
    leader = {"default": cluster.leader.django_database()}
    with django_db_blocker.unblock(), databases_in_place(leader):
        with connections["default"].schema_editor() as editor:
            for model in (Shelf, Label, Book):
                editor.create_model(model)
        Book.objects.using("default").create(pk=1, title="read")
    cluster.wait_for_replay()


@pytest.fixture
def site(cluster, tables, databases):
    for server in (cluster.leader, *cluster.followers):
        server.start()
    site = Site(cluster)
    entries = {
        alias: {
            **server.django_database(),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
        }
        for alias, server in site.servers.items()
    }
    with databases_in_place(entries):
        yield site
        connections.close_all()
        for server in cluster.followers:
            server.thaw()
            server.start()
            wait_until(lambda: server.execute("SELECT 1") == [(1,)], f"{server} answers")  # noqa: B023


def begin_request():
    """Do what Django does with connections when a request begins: health checks are due again."""
    close_old_connections()


def test_real_follower_killed(site, clock, caplog):
    """A follower that was killed costs no read, one line, and comes back after the downtime."""
    site["replica1"].kill()
    with counted_attempts("replica1") as made:
        for _ in range(20):
            begin_request()
            assert site.alias_at(port_in_a_unit()) == "replica2"
    assert len(made) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    site["replica1"].start()
    clock.now += 10
    assert site.alias_at(port_in_a_unit()) == "replica1"
    assert {site.alias_at(port_in_a_unit()) for _ in range(40)} == FOLLOWERS


def test_real_followers_killed(site, clock, caplog):
    """With both killed the leader serves every read, and one line says that it does."""
    for alias in FOLLOWERS:
        site[alias].kill()
    for _ in range(20):
        begin_request()
        assert site.alias_at(port_in_a_unit()) == "default"
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    assert len(caplog.records) == 3


def test_real_persistent_connection(site):
    """A persistent connection whose server was killed is found when it is chosen."""
    assert {site.alias_at(port_in_a_unit()) for _ in range(40)} == FOLLOWERS
    site["replica2"].kill()
    for _ in range(20):
        begin_request()
        assert site.alias_at(port_in_a_unit()) == "replica1"


def test_real_persistent_connection_naive(site):
    """Without a choice that checks, the same read fails."""
    assert list(Book.objects.using("replica2").values_list("title", flat=True)) == ["read"]
    site["replica2"].kill()
    begin_request()
    with pytest.raises(OperationalError):
        list(Book.objects.using("replica2"))


def test_real_server_restarted(site):
    """A persistent connection to a server that was restarted is opened anew, in silence."""
    assert {site.alias_at(port_in_a_unit()) for _ in range(40)} == FOLLOWERS
    for alias in FOLLOWERS:
        site[alias].kill()
        site[alias].start()
    begin_request()
    assert {site.alias_at(port_in_a_unit()) for _ in range(40)} == FOLLOWERS


def test_real_follower_frozen(site, clock, caplog):
    """One that accepts and never answers is given up after its ``connect_timeout``, once."""
    site["replica1"].freeze()
    with counted_attempts("replica1") as made:
        for _ in range(10):
            begin_request()
            assert site.alias_at(port_in_a_unit()) == "replica2"
    assert len(made) == 1
    assert "timeout" in caplog.text
    site["replica1"].thaw()
    clock.now += 10
    assert site.alias_at(port_in_a_unit()) == "replica1"


def test_real_row_locks(site, settings):
    """Rows are locked on the leader, which is no write: nothing is refused, nothing pinned."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.StrictPinRouter"]
    with unit_of_work():
        with transaction.atomic():
            locked = Book.objects.select_for_update(of=("self",)).annotate(port=ServerPort())
            assert site.alias_at(locked.get(pk=1).port) == "default"
        assert not is_pinned("default")
        assert site.alias_at(answering_port()) in FOLLOWERS


def test_real_composed_statement(site):
    """A statement that is no text until the driver makes it one is read like any other."""
    table = psycopg.sql.Identifier("shop_book")
    with unit_of_work(), connections["default"].cursor() as cursor:
        cursor.execute(psycopg.sql.SQL("SELECT count(*) FROM {}").format(table))
        assert not is_pinned("default")
        cursor.execute(psycopg.sql.SQL("UPDATE {} SET note = 'new'").format(table))
        assert site.alias_at(answering_port()) == "default"


class SlammedDoor:
    """A server that hangs up on everybody who comes, and counts them."""

    def __enter__(self):
        self.visitors = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._closing = socket.socketpair()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._closing[0].close()
        self._thread.join()
        self._closing[1].close()
        self._socket.close()

    @property
    def port(self):
        return self._socket.getsockname()[1]

    def _listen(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._closing[1], selectors.EVENT_READ)
            while self._closing[1] not in [key.fileobj for key, _ in selector.select()]:
                visitor, _ = self._socket.accept()
                visitor.close()
                self.visitors += 1


def test_attempts_seen_by_the_server(clock):
    """What a server sees of a process that gave it up: one visitor for each downtime."""
    with SlammedDoor() as door:
        entry = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "app",
            "HOST": "127.0.0.1",
            "PORT": str(door.port),
            "OPTIONS": {"sslmode": "disable", "gssencmode": "disable"},
        }
        with databases_in_place({"replica1": entry}):
            for visitors in (1, 2, 3):
                assert {read_in_a_unit() for _ in range(20)} == {"replica2"}
                assert door.visitors == visitors
                clock.now += 10


def test_thread_that_cannot_reach_the_units_follower(monkeypatch):
    """Another thread of the unit goes on with the leader, which is never behind."""
    with unit_of_work():
        chosen = title()
        assert chosen in FOLLOWERS

        def work():
            monkeypatch.setitem(connections[chosen].settings_dict, "NAME", "/nowhere/at/all")
            try:
                return title(), title()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(bind(work)).result() == ("default", "default")


def test_unit_without_an_end_chooses_again(settings):
    """A thread's own unit leaves a follower that has failed, and takes another."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    first = title()
    assert first in FOLLOWERS
    connections[first].close()
    monkeypatched = connections[first].settings_dict
    name, monkeypatched["NAME"] = monkeypatched["NAME"], "/nowhere/at/all"
    try:
        assert {title(), title()} == FOLLOWERS - {first}
    finally:
        monkeypatched["NAME"] = name


@pytest.fixture
def failed(configure):
    """The connection to the only follower, which met an error and works."""
    configure(SETS={"default": ["replica1"]})
    with unit_of_work():
        title()
        with pytest.raises(OperationalError), connections["replica1"].cursor() as cursor:
            cursor.execute("SELECT nonsense FROM nowhere")
    assert connections["replica1"].errors_occurred
    return connections["replica1"]


def test_failed_connection_that_works_is_kept_outside_requests(failed):
    """Somebody may be in the midst of its rows."""
    driver = failed.connection
    with unit_of_work():
        assert title() == "replica1"
    assert failed.connection is driver
    assert not failed.errors_occurred


def test_failed_connection_is_left_alone_in_a_transaction(failed, monkeypatch):
    """What becomes of it is for whoever opened the transaction."""
    monkeypatch.setattr(failed, "is_usable", None)
    with transaction.atomic(using="replica1"), unit_of_work():
        assert title() == "replica1"


def test_a_process_has_followers_of_its_own():
    """A forked one does not take its turns in step, nor wait for threads that it has not got."""
    here = followers_of(the_set())
    with here._lock:
        child = os.fork()
        if not child:
            os._exit(followers_of(the_set()) is here)
        assert os.waitpid(child, 0)[1] == 0
    assert followers_of(the_set()) is here


def test_test_case_reads_the_leader_even_where_a_follower_is_asked_for():
    """Its rows are in its transaction, and on no follower."""
    with atomic_as_in_a_test_case(), unit_of_work():
        with follower("default"):
            assert title() == "default"
        assert get_follower("default") == "default"


@contextmanager
def atomic_as_in_a_test_case():
    with transaction.atomic() as block:
        connections["default"].atomic_blocks[-1]._from_testcase = True
        yield block
