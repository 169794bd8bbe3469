"""``request.service_is_readonly``: what the leader says of itself, or that it says nothing."""

import asyncio
import logging
import os
import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.signals import connection_created
from django.http import JsonResponse
from django.template import Context, Engine
from django.test import AsyncClient, Client
from django.urls import path

from django_replicas import readonly
from django_replicas.middleware import ReadOnlyMiddleware
from django_replicas.readonly import LeaderWatch, ais_read_only, forget_leaders, is_read_only
from django_replicas.writability import _ASK, refuses_writes
from servers.mariadb import MariaDBNotFound, Server
from servers.postgres import Cluster
from servers.waiting import wait_until

from .test_liveness import Clock


def ask(request):
    return JsonResponse([bool(request.service_is_readonly)], safe=False)


async def ask_async(request):
    return JsonResponse([await request.aservice_is_readonly()], safe=False)


async def ask_on_the_loop(request):
    return JsonResponse([bool(request.service_is_readonly)], safe=False)


async def ask_after_awaiting(request):
    await request.aservice_is_readonly()
    twice = [bool(request.service_is_readonly), await request.aservice_is_readonly()]
    return JsonResponse(twice, safe=False)


def ask_twice(request):
    before = bool(request.service_is_readonly)
    connections.settings["default"].update(unreachable())
    forget_leaders()
    return JsonResponse([before, bool(request.service_is_readonly)], safe=False)


def show(request):
    page = Engine().from_string(
        "{% if request.service_is_readonly %}closed{% else %}open{% endif %}"
    )
    return JsonResponse(page.render(Context({"request": request})), safe=False)


def look_away(request):
    return JsonResponse([], safe=False)


urlpatterns = [
    path("ask", ask),
    path("ask-async", ask_async),
    path("ask-on-the-loop", ask_on_the_loop),
    path("ask-after-awaiting", ask_after_awaiting),
    path("ask-twice", ask_twice),
    path("show", show),
    path("look-away", look_away),
]


def unreachable():
    return {"NAME": "/nonexistent/folder/file.sqlite3"}


@pytest.fixture(autouse=True)
def _requests(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django_replicas.middleware.ReadOnlyMiddleware", *settings.MIDDLEWARE]
    forget_leaders()
    yield
    forget_leaders()


@pytest.fixture
def configure(settings):
    def change(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return change


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(readonly, "LeaderWatch", partial(LeaderWatch, clock=clock))
    return clock


@contextmanager
def as_leader(**entry):
    """Have an entry of ``DATABASES`` in the place of the leader's own."""
    configured = connections.configure_settings({DEFAULT_DB_ALIAS: entry})[DEFAULT_DB_ALIAS]
    before = _replace_leader(configured)
    try:
        yield
    finally:
        _replace_leader(before)


def _replace_leader(settings):
    before = connections.settings[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS].close()
    del connections[DEFAULT_DB_ALIAS]
    connections.settings[DEFAULT_DB_ALIAS] = settings
    return before


def sqlite(name, **options):
    return as_leader(ENGINE="django.db.backends.sqlite3", NAME=str(name), OPTIONS=options)


@pytest.fixture
def file():
    """A database that everybody may find, in a folder that nobody cleans up but this test."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    file = folder / "file.sqlite3"
    with sqlite(file):
        connections["default"].cursor().execute("CREATE TABLE t (a)")
    file.chmod(0o644)
    yield file
    shutil.rmtree(folder)


# Requests


@pytest.fixture(params=["wsgi", "asgi"])
def send(request):
    def send_async(address):
        async def main():
            try:
                return (await AsyncClient().get(f"/{address}")).json()
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(main())

    return (
        (lambda address: Client().get(f"/{address}").json())
        if (request.param == "wsgi")
        else send_async
    )


@pytest.mark.parametrize("address", ["ask", "ask-async"])
def test_a_leader_that_takes_writes(send, address):
    """Nothing is wrong, under WSGI and ASGI."""
    assert send(address) == [False]


@pytest.mark.parametrize("address", ["ask", "ask-async"])
def test_a_leader_that_cannot_be_reached(send, address):
    """Nobody can write to what is not there."""
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        assert send(address) == [True]


def test_templates_ask_too(send):
    """The attribute is as good as a boolean there."""
    assert send("show") == "open"
    forget_leaders()
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        assert send("show") == "closed"


def test_a_loop_is_not_blocked(send):
    """Asking without awaiting is an error that says what to do, as Django has it."""
    with pytest.raises(SynchronousOnlyOperation, match=r"await request\.aservice_is_readonly"):
        send("ask-on-the-loop")


def test_a_loop_that_has_awaited_is_answered(send):
    """What the request was told once it knows."""
    assert send("ask-after-awaiting") == [False, False]


def test_a_request_is_told_one_thing(monkeypatch):
    """A page does not say both."""
    entry = connections.settings["default"]
    monkeypatch.setitem(entry, "NAME", entry["NAME"])
    assert Client().get("/ask-twice").json() == [False, False]


@pytest.mark.parametrize("address", ["look-away", "ask"])
def test_nobody_opens_the_leader_unless_asked(send, address):
    """A request that does not want to know costs no connection."""
    opened = []

    def note(connection, **kwargs):
        opened.append(connection.alias)

    connection_created.connect(note)
    try:
        send(address)
    finally:
        connection_created.disconnect(note)
    assert opened == (["default"] if address == "ask" else [])


def test_the_middleware_is_of_the_kind_of_what_it_wraps():
    """Django puts no thread between."""

    async def get_response(request):
        """Answer nothing."""

    assert iscoroutinefunction(ReadOnlyMiddleware(get_response))
    assert not iscoroutinefunction(ReadOnlyMiddleware(lambda request: None))


def test_a_subclass_names_another_set(rf, settings, monkeypatch):
    """The leader of the set that its alias belongs to is asked."""

    class OtherReadOnlyMiddleware(ReadOnlyMiddleware):
        alias = "other-0"

    monkeypatch.setitem(connections.settings["other"], "NAME", unreachable()["NAME"])
    request = rf.get("/")
    OtherReadOnlyMiddleware(lambda request: None)(request)
    assert bool(request.service_is_readonly)


# What is remembered


@contextmanager
def silent_server():
    """Listen, and never answer; yield what counts the connections that were made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        accepted, over = [], threading.Event()

        def accept():
            while not over.is_set():
                try:
                    accepted.append(listener.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        postgres = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "x",
            "HOST": "127.0.0.1",
            "PORT": str(listener.getsockname()[1]),
            "OPTIONS": {"sslmode": "disable", "gssencmode": "disable"},
        }
        try:
            with as_leader(**postgres):
                yield accepted
        finally:
            over.set()
            thread.join()
            for each in accepted:
                each.close()


@pytest.mark.parametrize("tries", [1, 3])
def test_it_is_tried_so_often(configure, clock, tries):
    """A leader that is silent is tried again at once, as often as configured, and then left."""
    configure(READ_ONLY_TRIES=tries, READ_ONLY_TIMEOUT=0.05)
    with silent_server() as accepted:
        assert is_read_only("default")
        wait_until(lambda: len(accepted) == tries, "each try has its connection")
        assert is_read_only("default")
        assert len(accepted) == tries
        clock.now += 10
        assert is_read_only("default")
        wait_until(lambda: len(accepted) == 2 * tries, "after the downtime it is tried again")


@pytest.mark.parametrize(
    ("keys", "downtime"),
    [
        ({}, 10),
        ({"READ_ONLY_DOWNTIME": 7}, 7),
        ({"DOWNTIME": 60}, 60),
        ({"DOWNTIME": 60, "READ_ONLY_DOWNTIME": 7}, 7),
        ({"SETS": {"default": {"FOLLOWERS": [], "DOWNTIME": 3}}}, 3),
        ({"SETS": {}}, 10),
    ],
)
def test_a_bad_answer_is_remembered_for_the_downtime(configure, clock, keys, downtime):
    """By a monotonic clock; a leader that is back sooner has to wait for it."""
    configure(**keys)
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        assert is_read_only("default")
    clock.now += downtime - 0.5
    assert is_read_only("default")
    clock.now += 0.5
    assert not is_read_only("default")


def test_a_good_answer_is_remembered_for_a_second(clock):
    """A leader that goes is missed by the first who asks after that."""
    assert not is_read_only("default")
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        clock.now += 0.9
        assert not is_read_only("default")
        clock.now += 0.2
        assert is_read_only("default")


def test_requests_in_a_row_ask_once(clock):
    """A busy site does not open a connection for each of them."""
    opened = []

    def note(connection, **kwargs):
        opened.append(connection.alias)

    connection_created.connect(note)
    try:
        for _ in range(5):
            assert not is_read_only("default")
    finally:
        connection_created.disconnect(note)
    assert opened == ["default"]


def test_changed_settings_are_asked_anew(configure):
    """Nothing is remembered of another configuration."""
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        assert is_read_only("default")
    configure(DOWNTIME=1000)
    assert not is_read_only("default")


def test_it_is_logged_once_each_way(clock, caplog):
    """With the reason, when it begins, and when it is over."""
    caplog.set_level(logging.INFO, "django_replicas")
    with as_leader(ENGINE="django.db.backends.sqlite3", **unreachable()):
        for _ in range(2):
            assert is_read_only("default")
            clock.now += 10
    assert not is_read_only("default")
    assert not is_read_only("default")
    assert [each.getMessage() for each in caplog.records] == [
        "The leader 'default' takes no writes: unable to open database file",
        "The leader 'default' takes writes again.",
    ]


def test_silence_is_logged_as_such(configure, caplog):
    """An error without words gets some."""
    configure(READ_ONLY_TRIES=1, READ_ONLY_TIMEOUT=0.05)
    with silent_server():
        assert is_read_only("default")
    assert caplog.messages == [
        "The leader 'default' takes no writes: no answer within 0.05 seconds"
    ]


def test_another_error_is_no_answer(django_db_blocker):
    """What does not mean that the leader cannot be reached is raised, not taken for its death."""
    with django_db_blocker.block(), pytest.raises(RuntimeError, match="Database access"):
        is_read_only("default")
    assert not is_read_only("default")


def test_nothing_stays_open(file):
    """The leader is asked over a connection that is closed at once."""
    with sqlite(file):
        assert not is_read_only("default")
        opened = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert str(file) not in opened


def test_the_settings_of_the_alias_stay_as_they_were(configure):
    """A deadline for connecting is added to a copy."""
    configure(READ_ONLY_TRIES=1, READ_ONLY_TIMEOUT=0.05)
    with silent_server():
        is_read_only("default")
        assert "connect_timeout" not in connections.settings["default"]["OPTIONS"]


# SQLite


def test_sqlite_files_take_writes(file):
    """A plain file."""
    with sqlite(file):
        assert not is_read_only("default")


def test_sqlite_in_memory_takes_writes():
    """A database that is no file at all."""
    with sqlite(":memory:"):
        assert not is_read_only("default")


@pytest.mark.parametrize("query", ["mode=ro", "immutable=1", "cache=private&mode=ro"])
def test_sqlite_opened_to_read(file, query):
    """The address says so."""
    with sqlite(f"file:{file}?{query}"):
        assert is_read_only("default")


@pytest.mark.parametrize("query", ["", "?mode=rw", "?cache=private"])
def test_sqlite_opened_by_address_to_write(file, query):
    """An address alone says nothing."""
    with sqlite(f"file:{file}{query}"):
        assert not is_read_only("default")


def test_sqlite_told_to_query_only(file):
    """The pragma that a project may begin its connections with."""
    with sqlite(file, init_command="PRAGMA query_only=1"):
        assert is_read_only("default")


def test_sqlite_files_that_may_not_be_written(file):
    """The rights of the file, for the user who we are."""
    file.chmod(0o444)
    with sqlite(file), _as_ordinary_user():
        assert is_read_only("default")


@contextmanager
def _as_ordinary_user():
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_vendor_of_which_nothing_is_known(monkeypatch):
    """That it can be reached is enough."""
    monkeypatch.delitem(_ASK, "sqlite")
    assert not refuses_writes(connections["default"])


# PostgreSQL


@pytest.fixture(scope="module")
def cluster():
    with Cluster(standbys=1) as cluster:
        yield cluster


@pytest.fixture
def postgres(cluster):
    with as_leader(**cluster.leader.django_database()):
        yield cluster.leader


def test_postgres_takes_writes(postgres):
    """A leader that is well."""
    assert not is_read_only("default")


def test_postgres_takes_writes_async(postgres):
    """As ever."""
    assert asyncio.run(ais_read_only("default")) is False


def test_postgres_pools_say_nothing_of_their_server(cluster):
    """While all connections of a pool work, the leader takes writes all the same."""
    pytest.importorskip("psycopg_pool")
    pool = {"max_size": 1, "min_size": 0, "timeout": 0.1}
    with as_leader(**{**cluster.leader.django_database(), "OPTIONS": {"pool": pool}}):
        try:
            connections["default"].ensure_connection()
            assert not is_read_only("default")
        finally:
            connections["default"].close()
            connections["default"].close_pool()


def test_postgres_in_recovery():
    """A follower in the leader's place, until it is promoted."""
    with Cluster(standbys=1) as own:
        (standby,) = own.followers
        with as_leader(**standby.django_database()):
            assert is_read_only("default")
            standby.execute("SELECT pg_promote()")
            forget_leaders()
            assert not is_read_only("default")


def test_postgres_set_to_read_only(postgres):
    """The server's setting, as it is put there for maintenance."""
    postgres.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        _reload(postgres, "on")
        assert is_read_only("default")
    finally:
        postgres.execute("ALTER SYSTEM RESET default_transaction_read_only")
        _reload(postgres, "off")
    forget_leaders()
    assert not is_read_only("default")


def _reload(server, value):
    server.execute("SELECT pg_reload_conf()")
    wait_until(
        lambda: server.execute("SHOW default_transaction_read_only") == [(value,)],
        f"default_transaction_read_only is {value}",
    )


def test_postgres_killed_and_back(postgres, clock):
    """It is missed after a second, and found again after the downtime."""
    assert not is_read_only("default")
    postgres.kill()
    clock.now += 1
    try:
        assert is_read_only("default")
    finally:
        postgres.start()
    assert is_read_only("default")
    clock.now += 10
    assert not is_read_only("default")


@pytest.mark.parametrize("address", ["ask", "ask-async"])
def test_postgres_frozen_and_thawed(postgres, configure, clock, send, address):
    """A server that accepts connections and answers nothing holds nobody up."""
    configure(READ_ONLY_TIMEOUT=0.1)
    postgres.freeze()
    try:
        assert send(address) == [True]
        assert send(address) == [True]
    finally:
        postgres.thaw()
    clock.now += 10
    configure(READ_ONLY_TIMEOUT=30)
    assert send(address) == [False]


def test_wrong_passwords_are_no_leader(cluster):
    """Who cannot log in cannot write."""
    with as_leader(**{**cluster.leader.django_database(), "PASSWORD": "wrong"}):
        assert is_read_only("default")


# MariaDB and MySQL


class Answering:
    """In the place of servers that nobody has here: a connection, and the one row it answers."""

    vendor = "mysql"

    def __init__(self, *row):
        self.row = row

    def ensure_connection(self):
        """Be open."""

    @contextmanager
    def cursor(self):
        yield self

    def execute(self, query):
        assert query == "SELECT @@global.read_only, @@global.innodb_read_only"

    def fetchone(self):
        return self.row


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((0, 0), False),
        ((1, 0), True),
        ((0, 1), True),
        (("OFF", "0"), False),
        (("ON", 0), True),
        (("NO_LOCK", 0), True),
    ],
)
def test_what_kinds_of_mysql_answer(row, expected):
    """Numbers, and names where MariaDB 12 has more than two; readers of Aurora by the second."""
    assert refuses_writes(Answering(*row)) is expected


@pytest.fixture(scope="module")
def mariadb():
    pymysql = pytest.importorskip("pymysql")
    pymysql.install_as_MySQLdb()
    try:
        server = Server()
    except MariaDBNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture
def on_mariadb(mariadb):
    with as_leader(**mariadb.django_database()):
        yield mariadb


def test_mariadb_takes_writes(on_mariadb):
    """A leader that is well."""
    assert not is_read_only("default")


def test_mariadb_set_to_read_only(on_mariadb):
    """The global variable, of replicas and of maintenance."""
    on_mariadb.execute("SET GLOBAL read_only = 1")
    try:
        assert is_read_only("default")
    finally:
        on_mariadb.execute("SET GLOBAL read_only = 0")
    forget_leaders()
    assert not is_read_only("default")


def test_mariadb_frozen_and_thawed(on_mariadb, configure):
    """A server that accepts connections and answers nothing holds nobody up."""
    configure(READ_ONLY_TIMEOUT=0.1)
    on_mariadb.freeze()
    try:
        assert is_read_only("default")
    finally:
        on_mariadb.thaw()
    configure(READ_ONLY_TIMEOUT=30)
    assert not is_read_only("default")


def test_mariadb_killed_and_back(on_mariadb):
    """It is missed at once."""
    on_mariadb.kill()
    try:
        assert is_read_only("default")
    finally:
        on_mariadb.start()
    forget_leaders()
    assert not is_read_only("default")
