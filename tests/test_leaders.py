"""The leaders' connections: watched from the front, once, and never opened to be asked."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, router, transaction
from django.db.backends.signals import connection_created

from django_replicas import is_pinned, unit_of_work
from django_replicas.leaders import is_in_transaction, watch, watch_leaders
from django_replicas.routers import GreedyPinRouter

from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}


@pytest.fixture
def leader():
    """The leader's connection in a state as new: closed, and nobody listening."""
    connections["default"].close()
    del connections["default"]
    return connections["default"]


def title():
    return Book.objects.get(pk=1).title


def write():
    Book.objects.filter(pk=1).update(note="new")


def in_thread(work, *args):
    def run():
        try:
            return work(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


# Watching


def test_watched_in_front(leader):
    """We hear of a statement before everybody else, also before those who came first."""
    order = []

    def first(execute, sql, params, many, context):
        order.append(("first", is_pinned("default")))
        return execute(sql, params, many, context)

    with leader.execute_wrapper(first), unit_of_work():
        write()
        assert leader.execute_wrappers[-1] is first
    assert order == [("first", True)]


def test_watched_once(leader):
    """However often a connection is met, opened or replaced by itself, it is watched once."""
    for _ in range(3):
        leader.ensure_connection()
        with unit_of_work():
            title()
            router.db_for_write(Book)
        watch(leader)
        watch_leaders()
        leader.close()
    assert len(leader.execute_wrappers) == 1


def test_django_context_managers_around_ours(leader):
    """``execute_wrapper`` removes the last wrapper, so ours survives it, in whatever order."""
    heard = []

    def note(execute, sql, params, many, context):
        heard.append(sql)
        return execute(sql, params, many, context)

    with leader.execute_wrapper(note):
        leader.ensure_connection()
        with leader.execute_wrapper(note):
            watch(leader)
    assert len(leader.execute_wrappers) == 1
    with unit_of_work():
        write()
        assert is_pinned("default")
    assert heard == []


def test_ours_does_not_outlive_a_wrapper_of_anothers(leader):
    """A wrapper that surrounds the first routed read is gone when its block is."""
    heard = []

    def note(execute, sql, params, many, context):
        heard.append(sql)
        return execute(sql, params, many, context)

    with leader.execute_wrapper(note), unit_of_work():
        title()
        write()
    assert len(heard) == 1
    with unit_of_work():
        write()
        assert is_pinned("default")
    assert len(heard) == 1


def test_result_is_handed_on(leader):
    """What a statement returns or raises is what its caller gets."""
    with unit_of_work():
        assert Book.objects.filter(pk=1).update(note="new") == 1
        assert Book.objects.filter(pk=2).update(note="new") == 0
        with leader.cursor() as cursor, pytest.raises(Exception, match="no such table"):
            cursor.execute("DELETE FROM nowhere")


def test_only_leaders_are_watched():
    """Followers, and databases in no set, are left as they are."""
    for alias in connections:
        connections[alias].close()
        del connections[alias]
        connections[alias].ensure_connection()
    watched = {alias for alias in connections if connections[alias].execute_wrappers}
    assert watched == {"default", "other"}


def test_watched_in_every_thread():
    """Each thread's connection is watched, whoever opens it and by whatever way."""

    def work():
        with unit_of_work(), connections["default"].cursor() as cursor:
            cursor.execute("UPDATE shop_book SET note = 'new'")
            return is_pinned("default")

    assert [in_thread(work) for _ in range(3)] == [True] * 3


def test_other_routers_are_not_told(settings):
    """Routers of others stand beside ours."""
    settings.DATABASE_ROUTERS = ["tests.naive.FirstFollower", *settings.DATABASE_ROUTERS]
    with unit_of_work():
        write()
        assert is_pinned("default")
        assert title() == "replica1"


def test_no_router_of_ours(settings, leader):
    """Where the app is installed without its routers, statements pass unheard."""
    settings.DATABASE_ROUTERS = ["tests.naive.FirstFollower"]
    with unit_of_work():
        write()
        assert not is_pinned("default")


def test_connections_opened_without_the_app(leader):
    """The routers alone, without the app, see to it that new connections are watched."""
    connection_created.disconnect(dispatch_uid="django_replicas.leaders")
    GreedyPinRouter()
    with unit_of_work():
        write()
        assert is_pinned("default")


# Transactions


def test_in_atomic(leader):
    """Inside ``atomic()`` and only there; savepoints make no difference."""
    assert is_in_transaction("default") is False
    with transaction.atomic():
        assert is_in_transaction("default") is True
        with transaction.atomic():
            assert is_in_transaction("default") is True
        assert is_in_transaction("default") is True
        assert is_in_transaction("other") is False
    assert is_in_transaction("default") is False


def test_after_a_rollback(leader):
    """A transaction that failed is over."""

    def fail():
        with transaction.atomic():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert is_in_transaction("default") is False


def test_transaction_by_hand(leader):
    """With ``set_autocommit(False)`` there is a transaction until it is turned on again."""
    with unit_of_work():
        before = title()
        transaction.set_autocommit(False)
        assert title() == "default"
        transaction.commit()
        assert title() == "default"
        transaction.set_autocommit(True)
        assert title() == before
        assert before in FOLLOWERS


def test_transaction_by_hand_closed(leader):
    """What was open with the connection is closed with it."""
    with unit_of_work():
        before = title()
        transaction.set_autocommit(False)
        assert title() == "default"
        transaction.rollback()
        leader.close()
        assert title() == before


def test_autocommit_off(leader, monkeypatch):
    """``AUTOCOMMIT: False`` is a transaction as soon as the leader's connection is open."""
    monkeypatch.setitem(leader.settings_dict, "AUTOCOMMIT", False)
    with unit_of_work():
        assert title() in FOLLOWERS
        assert leader.connection is None
        list(Book.objects.using("default"))
        assert title() == "default"
        leader.rollback()
        leader.close()
        assert title() in FOLLOWERS


def test_never_opens(leader):
    """Asking opens nothing, on a connection that was never open and on one that was closed."""
    assert is_in_transaction("default") is False
    assert leader.connection is None
    leader.ensure_connection()
    leader.close()
    assert is_in_transaction("default") is False
    assert leader.connection is None


def test_another_threads_transaction():
    """A transaction belongs to the thread that opened it."""
    with transaction.atomic():
        assert in_thread(is_in_transaction, "default") is False
    with ThreadPoolExecutor(1) as pool:
        opened, done = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                opened.set()
                assert done.wait(30)
            connections.close_all()

        held = pool.submit(hold)
        assert opened.wait(30)
        assert is_in_transaction("default") is False
        done.set()
        held.result()


def test_second_connection_to_the_leader(leader):
    """A second connection, opened beside the thread's own, says nothing about its transaction."""
    with unit_of_work(), transaction.atomic():
        assert title() == "default"
        beside = leader.copy()
        beside.ensure_connection()
        try:
            assert is_in_transaction("default") is True
            assert title() == "default"
        finally:
            beside.close()


def test_second_connection_is_watched(leader):
    """What is written by a second connection counts as any other write to the leader."""
    beside = leader.copy()
    try:
        with unit_of_work():
            with beside.cursor() as cursor:
                cursor.execute("UPDATE shop_book SET note = 'new'")
            assert is_pinned("default")
    finally:
        beside.close()


@pytest.mark.parametrize("met_before", [False, True])
def test_on_an_event_loop(leader, met_before):
    """A loop's thread has no say, whatever it did before, and asking opens nothing."""
    if met_before:
        leader.ensure_connection()
        assert is_in_transaction("default") is False

    async def ask():
        return is_in_transaction("default"), connections["default"].connection

    assert asyncio.run(ask()) == (None, None)


def test_opened_on_an_event_loop(leader, monkeypatch):
    """A connection that a loop opened, where that was allowed, is watched and not the thread's."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

    async def open_and_write():
        try:
            with unit_of_work(), connections["default"].cursor() as cursor:
                cursor.execute("UPDATE shop_book SET note = 'new'")
                transaction.set_autocommit(False)
                return is_pinned("default")
        finally:
            connections["default"].close()

    assert asyncio.run(open_and_write()) is True
    assert is_in_transaction("default") is False
