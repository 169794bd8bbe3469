"""Reads that a standby cancels, on real servers, as an ordinary role."""

import os
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext

from django_replicas import follower, get_follower, unit_of_work
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until

from .shop.models import Book, Label, Shelf

# Waits on a standby, and returns at once elsewhere.
DAWDLE = """
    CREATE FUNCTION dawdle() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        IF pg_is_in_recovery() THEN PERFORM pg_sleep(60); END IF;
        RETURN 1;
    END $$
"""
# Fails where it is told to, with the code that it is told.
FAIL = """
    CREATE FUNCTION fail(code text, everywhere bool) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        IF everywhere OR pg_is_in_recovery() THEN
            RAISE EXCEPTION 'as it was told' USING ERRCODE = code;
        END IF;
        RETURN 1;
    END $$
"""
CANCELLED = "canceling statement due to conflict with recovery"


@pytest.fixture(scope="module", params=[16, 18])
def cluster(request, django_db_blocker):
    try:
        find_bindir(request.param)
    except PostgresNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with Cluster(standbys=1, major=request.param) as cluster:
        for query in (
            "ALTER SYSTEM SET max_standby_streaming_delay = 0",
            "SELECT pg_reload_conf()",
        ):
            cluster.followers[0].execute(query)
        cluster.leader.execute(DAWDLE)
        cluster.leader.execute(FAIL)
        yield cluster


@pytest.fixture
def site(cluster, databases_are, settings):
    """Have ten books on both servers; what conflicts also takes five from the leader."""
    leader, standby = cluster.leader, cluster.followers[0]
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    databases_are(default=leader.django_database(), replica1=standby.django_database())
    with connections["default"].schema_editor() as editor:
        for model in (Shelf, Label, Book):
            editor.create_model(model)
    books = Book.objects.using("default")
    books.bulk_create(Book(pk=number, title="read") for number in range(10))
    cluster.wait_for_replay()
    yield SimpleNamespace(cluster=cluster, leader=leader, standby=standby)
    leader.start()
    connections.close_all()
    with connections["default"].schema_editor() as editor:
        for model in (Book, Label, Shelf):
            editor.delete_model(model)
    cluster.wait_for_replay()


def clean_up(site):
    """Remove rows that a read on the standby may still need."""
    site.leader.execute("DELETE FROM shop_book WHERE id >= 5")
    site.leader.execute("VACUUM shop_book")


def lock(site):
    """Lock what a read on the standby holds."""
    site.leader.execute("DELETE FROM shop_book WHERE id >= 5")
    site.leader.execute("ALTER TABLE shop_book ADD COLUMN age int")


@contextmanager
def conflict(site, make=clean_up):
    """Have what the block reads on the standby cancelled, once it has begun to."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

    def interfere():
        wait_until(lambda: site.standby.execute(waiting) == [(1,)], "the standby reads")
        make(site)

    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def slow_books():
    """Return a query that waits where it reads on a standby."""
    return Book.objects.extra(where=["dawdle() = 1"]).order_by("pk")


FIVE = [0, 1, 2, 3, 4]


def keys(books):
    return [book.pk for book in books]


@pytest.mark.parametrize("make", [clean_up, lock])
def test_what_postgresql_sends(site, make):
    """Whatever conflicts, it is a serialization failure, which is where the retry begins."""
    connection = connections["replica1"].copy("nowhere")
    with (
        conflict(site, make),
        pytest.raises(OperationalError, match=CANCELLED) as caught,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT dawdle() FROM shop_book")
    connection.close()
    assert caught.value.__cause__.sqlstate == "40001"


@pytest.mark.parametrize("make", [clean_up, lock])
def test_a_cancelled_read(site, make, caplog):
    """The leader answers it, with its own rows."""
    caplog.set_level("INFO", "django_replicas")
    with unit_of_work(), conflict(site, make):
        assert keys(slow_books()) == FIVE
    assert [each.getMessage() for each in caplog.records] == [
        "Follower 'replica1' cancelled a read: 'default' does it."
    ]


def test_the_rest_of_the_unit(site):
    """It reads the leader from there on, because its follower may be behind what it has seen."""
    with unit_of_work():
        assert Book.objects.count() == 10
        site.standby.pause_replay()
        site.leader.execute("DELETE FROM shop_book WHERE id >= 5")
        site.standby.resume_replay()
        with conflict(site):
            assert keys(slow_books()) == FIVE
        assert Book.objects.all().db == get_follower("default") == "default"
        with follower("default"):
            assert Book.objects.all().db == "default"
        assert current_unit().counts == {
            ("replica1", Reason.FOLLOWER): 2,
            ("default", Reason.CONFLICT): 2,
        }
    with unit_of_work():
        assert Book.objects.all().db == "replica1"


def test_outside_units(site):
    """A read by name is helped too, and the next one goes where it is sent."""
    with conflict(site):
        assert keys(slow_books().using("replica1")) == FIVE
    site.cluster.wait_for_replay()
    with connections["replica1"].cursor() as cursor:
        cursor.execute("SELECT inet_server_port()")
        assert cursor.fetchone() == (site.standby.port,)


@pytest.mark.parametrize("fetch", ["fetchall", "fetchmany", "fetchone", "iterate"])
def test_a_cursor_of_ones_own(site, fetch):
    """All ways to the rows lead to the leader's, as does what the cursor executes next."""
    with connections["replica1"].cursor() as cursor:
        with conflict(site):
            cursor.execute("SELECT id FROM shop_book WHERE dawdle() = %s ORDER BY id", [1])
        ways = {
            "fetchall": cursor.fetchall,
            "fetchmany": lambda: cursor.fetchmany(10),
            "fetchone": lambda: [cursor.fetchone() for _ in range(5)],
            "iterate": lambda: list(cursor),
        }
        assert [key for (key,) in ways[fetch]()] == FIVE
        with unit_of_work():
            cursor.execute("UPDATE shop_book SET note = 'seen'")
            assert Book.objects.all().db == "default"
            assert current_unit().counts == {("default", Reason.WRITTEN): 1}


def test_rows_in_chunks(site):
    """A cursor on the server is declared anew on the leader, before it has handed out any row."""
    with conflict(site):
        books = slow_books().using("replica1").iterator(chunk_size=2)
        first = next(books)
    assert execute("SELECT count(*) FROM pg_cursors", "default") == [(1,)]
    assert keys([first, *books]) == FIVE


def test_queries_are_logged_once(site):
    """As the leader's, who has answered."""
    with (
        CaptureQueriesContext(connections["default"]) as on_leader,
        CaptureQueriesContext(connections["replica1"]) as on_follower,
        conflict(site),
    ):
        assert keys(slow_books().using("replica1")) == FIVE
    assert (len(on_leader), len(on_follower)) == (1, 0)


def test_inside_a_transaction_of_the_follower(site):
    """It has read the follower's rows already, and is told."""
    with (
        conflict(site),
        pytest.raises(OperationalError, match=CANCELLED),
        transaction.atomic(using="replica1"),
    ):
        keys(slow_books().using("replica1"))


def test_inside_a_transaction_of_the_leader(site):
    """A read that fails there would end it."""
    with (
        conflict(site),
        pytest.raises(OperationalError, match=CANCELLED),
        transaction.atomic(using="default"),
    ):
        keys(slow_books().using("replica1"))


def execute(sql, alias="replica1"):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_a_deadlock_with_the_replay(site):
    """It has a code of its own."""
    assert execute("SELECT fail('40P01', false)") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT fail('57014', false)", "as it was told"),  # A timeout, or somebody's wish.
        ("SELECT fail('40001', false), pg_is_in_recovery()", "as it was told"),
        ("DO $$ BEGIN PERFORM fail('40001', false); END $$", "as it was told"),
    ],
)
def test_what_is_not_done_again(site, sql, error):
    """Nothing but conflicts, nothing that asks the server about itself, nothing that may write."""
    with pytest.raises(OperationalError, match=error):
        execute(sql)


def test_many_at_once(site):
    """Nobody reads with ``executemany``."""
    with (
        connections["replica1"].cursor() as cursor,
        pytest.raises(OperationalError, match="as it was told"),
    ):
        cursor.executemany("SELECT fail(%s, false)", [["40001"]])


def test_once_only(site, caplog):
    """What fails on the leader as well is told, and nothing is left open."""
    caplog.set_level("INFO", "django_replicas")
    with pytest.raises(OperationalError, match="as it was told"):
        execute("SELECT fail('40001', true)")
    assert len(caplog.records) == 1
    assert execute("SELECT 1") == [(1,)]


def test_a_leader_that_is_down(site):
    """Then there is nobody left to ask."""
    connections["default"].close()
    site.leader.kill()
    with pytest.raises(OperationalError, match="onnection"):
        execute("SELECT fail('40001', false)")


def test_where_routing_is_disabled(site, settings):
    """A follower that is asked by name answers alone."""
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
    with pytest.raises(OperationalError, match="as it was told"):
        execute("SELECT fail('40001', false)")


def test_a_follower_no_more(site, settings):
    """What was a follower when its connection was opened may be none now."""
    execute("SELECT 1")
    settings.REPLICAS = {"SETS": {"default": []}}
    with pytest.raises(OperationalError, match="as it was told"):
        execute("SELECT fail('40001', false)")


def test_other_databases(settings):
    """Where nothing of the kind exists nothing is in the way."""
    with connections["replica1"].cursor() as cursor:
        cursor.execute("SELECT 1")
    assert not any("conflicts" in each.__module__ for each in cursor.db.execute_wrappers)
